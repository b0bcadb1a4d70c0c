package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

func TestStatusSaysWhatAPluginDoes(t *testing.T) {
	now := scriptNow
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for want, s := range map[string]*outlet.Status{
		"":                       nil,
		"disabled":               {State: outlet.StateDisabled, Since: ago(time.Hour), Restarts: 3},
		"starting 3s":            {State: outlet.StateStarting, Since: ago(3 * time.Second)},
		"running 5m":             {State: outlet.StateRunning, Since: ago(5*time.Minute + 59*time.Second)},
		"running 2d (1 restart)": {State: outlet.StateRunning, Since: ago(50 * time.Hour), Restarts: 1},
		"running 0s":             {State: outlet.StateRunning, Since: ago(-time.Second)}, // clocks differ
		"backoff, next start in 20s (3 restarts)": {State: outlet.StateBackoff, Restarts: 3, NextStart: pointer(now.Add(19900 * time.Millisecond))},
		"backoff, next start now":                 {State: outlet.StateBackoff, NextStart: pointer(ago(time.Second))},
		"failed: no such file":                    {State: outlet.StateFailed, Error: "no such file"},
		"stopping 1s":                             {State: outlet.StateStopping, Since: ago(time.Second)},
		"removing 1s":                             {State: outlet.StateRemoving, Since: ago(time.Second)},
	} {
		if got := statusText(outlet.Plugin{Status: s}, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNamesSortAsPeopleSort(t *testing.T) {
	want := []string{"", "1", "01", "2", "10", "a", "a1", "a1b", "a2", "a10", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortStableFunc(got, compareNatural)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func FuzzNaturalOrderIsAnOrder(f *testing.F) {
	f.Add("a1", "a01", "a2")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if compareNatural(a, b) != -compareNatural(b, a) {
			t.Errorf("%q and %q have no order", a, b)
		}
		if compareNatural(a, b) <= 0 && compareNatural(b, c) <= 0 && compareNatural(a, c) > 0 {
			t.Errorf("%q ≤ %q ≤ %q, but not the first and the last", a, b, c)
		}
		if compareNatural(a, a) != 0 {
			t.Errorf("%q is not itself", a)
		}
	})
}

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	now := scriptNow
	for s, want := range map[string]time.Time{
		"":                          {},
		"10m":                       now.Add(-10 * time.Minute),
		"0s":                        now,
		"2026-01-02T03:04:05Z":      now,
		"2026-01-02T03:04:05.5Z":    now.Add(500 * time.Millisecond),
		"2026-01-02T04:04:05+01:00": now,
		"2026-01-02T00:00:00":       time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
		"2026-01-02":                time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
		"2026-01-02 03:04":          time.Date(2026, 1, 2, 3, 4, 0, 0, time.Local),
		"1767323045":                now,
		"1767323045.5":              now.Add(500 * time.Millisecond),
		"1767323045.0000000019":     now.Add(time.Nanosecond),
	} {
		got, err := parseWhen(s, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"yesterday", "10", "1.x", "2026-13-01", "-"} {
		if got, err := parseWhen(s, now); err == nil && s != "10" {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestNothingInATableObeysAPlugin(t *testing.T) {
	if got := oneLine("a\x1b[31mb\r\nc\td\x00\u009b\u202e/srv\u202c\u2067"); got != "a\ufffd[31mbc d\ufffd\ufffd\ufffd/srv\ufffd\ufffd" {
		t.Errorf("%q", got)
	}
	if got := ellipsis("äöüß", 3); got != "äö…" {
		t.Errorf("%q", got)
	}
}

func TestTemplateFunctionsAreDockers(t *testing.T) {
	row := map[string]any{"S": "ab cd", "L": []string{"x", "y"}, "H": "<&>"}
	for tmpl, want := range map[string]string{
		`{{upper .S}} {{lower "X"}} {{title .S}}`: "AB CD x Ab Cd\n",
		`{{join .L ","}}`:                         "x,y\n",
		`{{json .L}} {{json .H}}`:                 `["x","y"] "<&>"` + "\n",
		`{{index (split .S " ") 1}}`:              "cd\n",
		`{{truncate .S 2}}|{{pad .S 1 2}}|`:       "ab| ab cd  |\n",
		`{{println .S}}`:                          "ab cd\n\n",
		`a\tb\n`:                                  "a\tb\n\n",
		`{{range .L}}{{.}};{{end}}`:               "x;y;\n",
	} {
		var b bytes.Buffer
		if err := (list{rows: []any{row}}).print(&b, tmpl); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v, want %q", tmpl, b.String(), err, want)
		}
	}
}

// everyCommand walks all commands, once each.
func everyCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		everyCommand(c, f)
	}
}

func TestHelpIsGolden(t *testing.T) {
	everyCommand(newRootCmd(&Env{Build: BuildInfo{Version: "1.2.3"}}), func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.HasParent() && cmd.Parent().Name() == "plugin" {
			return
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
			if code := Run(t.Context(), args, Env{Out: &out, Err: &out, Getenv: noEnv}); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			file := filepath.Join("testdata", "help", name+".golden")
			if *update {
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), out.String()); d != "" {
				t.Errorf("run with -update if this is meant:\n%s", d)
			}
		})
	})
}

func TestEveryCommandTellsAllThereIsToKnow(t *testing.T) {
	everyCommand(newRootCmd(&Env{}), func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.HasSubCommands() && cmd.HasParent() {
			return
		}
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s lacks a description or examples", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 90 {
				t.Errorf("%s: a line of %d characters: %s", cmd.CommandPath(), n, line)
			}
		}
	})
}

func TestTheSkeletonsConfigIsValid(t *testing.T) {
	for _, capability := range capabilities() {
		dir := filepath.Join(t.TempDir(), "x")
		var out bytes.Buffer
		if code := Run(t.Context(), []string{"init", "--capability", capability, dir}, Env{Out: &out, Err: &out, Getenv: noEnv}); code != 0 {
			t.Fatal(out.String())
		}
		data, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		cfg, warnings, err := outlet.ParseConfig(data)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %q", capability, err, warnings)
		}
		if _, warnings, err := outlet.Validate(cfg, outlet.ValidateOptions{Strict: true}); err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %q", capability, err, warnings)
		}
	}
}

func TestInitLeavesNothingBehindWhenItFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	err := writeNew(dir, map[string][]byte{"a": nil, "missing/b": nil})
	if err == nil {
		t.Fatal("a file in a directory that is not there was written")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory was left")
	}
}

func TestErrorsOfSeveralAreALineEach(t *testing.T) {
	if err := join(nil, nil); err != nil {
		t.Error(err)
	}
	one := usagef("one")
	if err := join(nil, one); !errors.Is(err, one) {
		t.Error(err)
	}
	var out bytes.Buffer
	printError(&out, join(join(one, usagef("two")), usagef("three")))
	if out.String() != "one\ntwo\nthree\n" {
		t.Errorf("%q", out.String())
	}
}

func TestAPromptSaysEachThingOnce(t *testing.T) {
	mount := outlet.Privilege{Name: "mount", Value: []string{"/srv"}}
	caps := outlet.Privilege{Name: "capabilities", Value: []string{"CAP_SYS_ADMIN"}}
	other := outlet.Privilege{Name: "unheard of", Value: []string{"yes", "no"}}
	tests := map[string]struct {
		had, wants outlet.Privileges
		want       string
	}{
		"a first install": {nil, outlet.Privileges{mount, caps, other}, `Plugin "p" is requesting the following privileges:
 - mount: [/srv]
     may mount this directory of the host into the plugin
 - capabilities: [CAP_SYS_ADMIN]
     may administer the system, for example mount
 - unheard of: [yes no]
Do you grant the above permissions? [y/N] `},
		"an upgrade": {outlet.Privileges{other, mount}, outlet.Privileges{caps, other}, `Plugin "p" is requesting the following privileges:
 - capabilities: [CAP_SYS_ADMIN]
     may administer the system, for example mount
 - unheard of: [yes no]
     as before
Plugin "p" does not request any more:
 - mount: [/srv]
     may mount this directory of the host into the plugin
Do you grant the above permissions? [y/N] `},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			yes, err := privileges{plugin: "p", had: tt.had, wants: tt.wants}.ask(t.Context(), &Env{In: strings.NewReader("y\n"), Err: &out})
			if err != nil || !yes {
				t.Fatal(yes, err)
			}
			if d := cmp.Diff(tt.want, out.String()); d != "" {
				t.Error(d)
			}
		})
	}
}
