package outlet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
)

// Bounds of a config. They hold before anything is made of it.
const (
	MaxConfigSize   = 1 << 20 // bytes of the whole document
	MaxConfigDepth  = 32      // lists and objects in each other
	MaxConfigList   = 1000    // entries of a list or an object
	MaxConfigString = 4 << 10 // bytes of a string or a key
)

// ParseConfig decodes a config.json that its author hands in: one JSON value
// and nothing else. Keys match whatever their case, of a key given twice the
// last one counts, null is the same as leaving a key out. What is odd but
// harmless, such as an unknown key, is told in warnings.
//
// All errors are errdefs.ErrInvalidArgument. Those of wrong types name each
// field and what it takes; [Validate] looks at values.
func ParseConfig(data []byte) (cfg Config, warnings []string, err error) {
	return parseConfig(data, func(rest []byte) error {
		return syntaxError(data, len(data)-len(rest), "unexpected content after the JSON value")
	})
}

// ParseConfigBlob is [ParseConfig] for the config of a plugin that was pulled,
// for which Docker's text says less.
func ParseConfigBlob(data []byte) (cfg Config, warnings []string, err error) {
	return parseConfig(data, func([]byte) error {
		return Errorf(errdefs.ErrInvalidArgument, "invalid config json")
	})
}

// EncodeConfig returns the JSON form of the config, with a new line at its end.
// [ParseConfig] makes the same config of it. A config that is larger than 1 MiB
// or has a type that no string stands for is errdefs.ErrInvalidArgument.
func EncodeConfig(cfg Config) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(cfg); err != nil {
		return nil, Errorf(errdefs.ErrInvalidArgument, "encode plugin config: %w", err)
	}
	if b.Len() > MaxConfigSize {
		return nil, configError("document", tooLarge)
	}
	return b.Bytes(), nil
}

const tooLarge = "is larger than 1 MiB"

// configError is the error for one field.
func configError(field, format string, args ...any) error {
	return Errorf(errdefs.ErrInvalidArgument, "invalid plugin config: %s: %s", field, fmt.Sprintf(format, args...))
}

func parseConfig(data []byte, trailing func(rest []byte) error) (Config, []string, error) {
	if len(data) > MaxConfigSize {
		return Config{}, nil, configError("document", tooLarge)
	}
	var value json.RawMessage
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&value); err != nil {
		var syntax *json.SyntaxError
		switch {
		case errors.Is(err, io.EOF):
			return Config{}, nil, Errorf(errdefs.ErrInvalidArgument, "failed to parse config: it is empty")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return Config{}, nil, Errorf(errdefs.ErrInvalidArgument, "failed to parse config: it ends in the middle of a value")
		case errors.As(err, &syntax):
			return Config{}, nil, syntaxError(data, max(int(syntax.Offset)-1, 0), syntax.Error())
		}
		return Config{}, nil, Errorf(errdefs.ErrInvalidArgument, "failed to parse config: %w", err)
	}
	if rest := bytes.TrimLeft(data[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return Config{}, nil, trailing(rest)
	}
	n, err := readNode(value)
	if err != nil {
		return Config{}, nil, err
	}
	if n.kind != kindObject {
		return Config{}, nil, configError("document", "must be one JSON object, not %s", n.kind)
	}
	var d decoder
	cfg := d.config(n)
	return cfg, d.warnings, errors.Join(d.errs...)
}

func syntaxError(data []byte, offset int, text string) error {
	before := data[:min(offset, len(data))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return Errorf(errdefs.ErrInvalidArgument, "failed to parse config: line %d, column %d: %s", line, column, text)
}

// kind is what a JSON value is.
type kind string

const (
	kindNull   kind = "null"
	kindBool   kind = "true or false"
	kindNumber kind = "a number"
	kindString kind = "a string"
	kindList   kind = "a list"
	kindObject kind = "an object"
)

// node is a JSON value within the bounds of a config.
type node struct {
	kind  kind
	text  string // of a string or a number
	truth bool
	list  []node   // of a list, or the values of an object
	keys  []string // of an object
}

// readNode reads data, which is valid JSON.
func readNode(data []byte) (node, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return nextNode(dec, place{}, 0)
}

// place is where in a document a value is. It is made words of only for an
// error, since a document may have many values.
type place struct {
	in    *place // nil for the document itself
	list  bool   // in is a list, else an object
	index int    // in a list
	key   string // in an object
}

// String is the path of the place.
func (p place) String() string {
	switch {
	case p.in == nil:
		return "document"
	case p.list:
		return fmt.Sprintf("%s[%d]", p.in.path(), p.index)
	}
	return join(p.in.path(), p.key)
}

func (p place) path() string {
	if p.in == nil {
		return ""
	}
	return p.String()
}

// nextNode reads the value at the place, which is in depth lists and objects.
func nextNode(dec *json.Decoder, at place, depth int) (node, error) {
	token, err := dec.Token()
	if err != nil {
		return node{}, Errorf(errdefs.ErrInvalidArgument, "failed to parse config: %w", err)
	}
	switch t := token.(type) {
	case bool:
		return node{kind: kindBool, truth: t}, nil
	case json.Number:
		return node{kind: kindNumber, text: t.String()}, nil
	case string:
		if len(t) > MaxConfigString {
			return node{}, configError(at.String(), "is %d bytes long, at most %d are allowed", len(t), MaxConfigString)
		}
		return node{kind: kindString, text: t}, nil
	case json.Delim:
		if depth == MaxConfigDepth {
			return node{}, configError(at.String(), "lists and objects are nested more than %d deep", MaxConfigDepth)
		}
		return nextNodes(dec, at, depth, t)
	}
	return node{kind: kindNull}, nil
}

// nextNodes reads the list or object at the place, whose opening delimiter was
// read.
func nextNodes(dec *json.Decoder, at place, depth int, open json.Delim) (node, error) {
	n := node{kind: kindList}
	if open == '{' {
		n.kind = kindObject
	}
	for dec.More() {
		if len(n.list) == MaxConfigList {
			return node{}, configError(at.String(), "has more than %d entries", MaxConfigList)
		}
		inner := place{in: &at, index: len(n.list), list: true}
		if n.kind == kindObject {
			key, err := nextNode(dec, at, depth)
			if err != nil {
				return node{}, err
			}
			n.keys = append(n.keys, key.text)
			inner = place{in: &at, key: key.text}
		}
		v, err := nextNode(dec, inner, depth+1)
		if err != nil {
			return node{}, err
		}
		n.list = append(n.list, v)
	}
	_, err := dec.Token() // the closing delimiter
	return n, err
}

// join is the path of a key in what is at path. Keys are shown as they are if
// that is safe, and cut.
func join(path, key string) string {
	const most = 64
	cut := strings.ToValidUTF8(key[:min(len(key), most)], "")
	if cut != key {
		cut += "…"
	}
	if q := fmt.Sprintf("%q", cut); q != `"`+cut+`"` || cut == "" {
		cut = q
	}
	if path == "" {
		return cut
	}
	return path + "." + cut
}
