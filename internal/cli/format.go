package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"unicode/utf8"
)

// The names of formats that stand for more than themselves.
const (
	formatJSON  = "json"
	formatTable = "table"
	formatRaw   = "raw"
)

const formatUsage = `Format the output: 'table' (default), 'table TEMPLATE', 'json' (one object per line), 'raw', or a Go template such as '{{.Name}}'`

const formatUsageObject = `Format the output: 'json', or a Go template such as '{{.Name}}'`

// templateFuncs are the functions Docker's templates have.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json":     toJSON,
		"split":    strings.Split,
		"join":     joinAny,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
		"println":  fmt.Sprintln,
	}
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// joinAny joins lists of strings, also those that came through JSON.
func joinAny(v any, sep string) (string, error) {
	switch list := v.(type) {
	case nil:
		return "", nil
	case []string:
		return strings.Join(list, sep), nil
	case []any:
		parts := make([]string, len(list))
		for i, p := range list {
			parts[i] = fmt.Sprint(p)
		}
		return strings.Join(parts, sep), nil
	}
	return "", fmt.Errorf("join wants a list, not %T", v)
}

func title(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		was := start
		start = r == ' '
		if was {
			return []rune(strings.ToUpper(string(r)))[0]
		}
		return r
	}, s)
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(n, 0)])
}

// parseTemplate understands what a shell leaves of \t and \n.
func parseTemplate(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("").Funcs(templateFuncs()).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, usagef("template parsing error: %w", bareTemplateError(err))
	}
	return t, nil
}

// bareTemplateError drops the name of the template, which has none.
func bareTemplateError(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "template: "))
}

// list is what a command that lists prints, in whatever format is asked for.
type list struct {
	// table is the template of the table, raw that of "raw".
	table, raw string
	// headers gives the heading of each placeholder.
	headers headings
	rows    []any
}

// headings stand in for a row in the first line of a table.
type headings map[string]string

// Label heads the column of one label.
func (headings) Label(key string) string { return key }

// print writes l in the format the user named; "" is the table.
func (l list) print(w io.Writer, format string) error {
	tmpl, isTable := format, false
	switch {
	case format == "" || format == formatTable:
		tmpl, isTable = l.table, true
	case strings.HasPrefix(format, formatTable+" "):
		tmpl, isTable = strings.TrimPrefix(format, formatTable+" "), true
	case format == formatRaw && l.raw != "":
		tmpl = l.raw
	case format == formatJSON:
		tmpl = "{{json .}}"
	}
	t, err := parseTemplate(tmpl)
	if err != nil {
		return err
	}
	if !isTable {
		return executeRows(w, t, l.rows)
	}
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 10, 1, 3, ' ', 0)
	if err := l.printHeader(tw, tmpl); err != nil {
		return err
	}
	if err := executeRows(tw, t, l.rows); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) { // cells are padded, the last one needs none
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// printHeader runs the row's template over the headings; its functions leave
// them alone, so that {{json .Name}} still has NAME above it.
func (l list) printHeader(w io.Writer, tmpl string) error {
	t, err := parseTemplate(tmpl)
	if err != nil {
		return err
	}
	same := func(v any, _ ...any) any { return v }
	t.Funcs(template.FuncMap{
		"json": same, "split": same, "join": same, "title": same, "lower": same,
		"upper": same, "truncate": same, "println": same, "pad": pad,
	})
	return executeRows(w, t, []any{l.headers})
}

func executeRows(w io.Writer, t *template.Template, rows []any) error {
	for _, r := range rows {
		var b bytes.Buffer
		if err := t.Execute(&b, r); err != nil {
			return usagef("template parsing error: %w", bareTemplateError(err))
		}
		b.WriteByte('\n')
		if _, err := w.Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// printObjects prints what an inspect found: a JSON array, or each through a
// template. A template may use the names of the fields or those of the JSON.
func printObjects(w io.Writer, format string, objects []any) error {
	switch format {
	case "":
		if objects == nil {
			objects = []any{}
		}
		return printJSON(w, objects)
	case formatJSON:
		format = "{{json .}}"
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := printObject(w, t, o); err != nil {
			return err
		}
	}
	return nil
}

func printObject(w io.Writer, t *template.Template, o any) error {
	var b bytes.Buffer
	if err := t.Execute(&b, o); err != nil {
		data, merr := json.Marshal(o)
		if merr != nil {
			return merr
		}
		var raw any
		if uerr := json.Unmarshal(data, &raw); uerr != nil {
			return uerr
		}
		b.Reset()
		if rerr := t.Execute(&b, raw); rerr != nil {
			return usagef("template parsing error: %w", bareTemplateError(err))
		}
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	return e.Encode(v)
}
