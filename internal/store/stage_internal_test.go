package store

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// pieces counts what is written at a time.
type pieces struct {
	bytes.Buffer
	sizes []int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.sizes = append(p.sizes, len(b))
	return p.Buffer.Write(b)
}

func TestWhatComesInSmallPiecesIsWrittenInLargeOnes(t *testing.T) {
	text := strings.Repeat("0123456789", 10)
	cut := errors.New("cut")
	for name, c := range map[string]struct {
		r    io.Reader
		want string
		err  error
	}{
		"byte by byte":         {iotest.OneByteReader(strings.NewReader(text)), text, nil},
		"the end with data":    {iotest.DataErrReader(strings.NewReader(text)), text, nil},
		"nothing":              {strings.NewReader(""), "", nil},
		"a whole buffer":       {strings.NewReader(text[:32]), text[:32], nil},
		"an error on the way":  {io.MultiReader(strings.NewReader(text[:40]), iotest.ErrReader(cut)), text[:40], cut},
		"a body that ends too": {io.MultiReader(strings.NewReader(text[:40]), iotest.ErrReader(io.ErrUnexpectedEOF)), text[:40], io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			var w pieces
			n, err := copyWhole(&w, c.r, make([]byte, 32))
			if n != int64(len(c.want)) || !errors.Is(err, c.err) || w.String() != c.want {
				t.Errorf("%d bytes, %v, %q", n, err, w.String())
			}
			if len(w.sizes) > 4 {
				t.Errorf("written in %v", w.sizes)
			}
		})
	}
}
