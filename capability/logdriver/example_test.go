package logdriver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/outletd/outlet/capability/logdriver"
)

func Example() {
	var fifo bytes.Buffer
	enc := logdriver.NewEncoder(&fifo)
	line := &logdriver.Entry{Source: logdriver.SourceStdout, TimeNano: 1, Line: []byte("hello")}
	if err := logdriver.Fragments(line, "id", enc.Encode); err != nil {
		log.Fatal(err)
	}

	dec := logdriver.NewDecoder(&fifo, 0)
	var e logdriver.Entry
	for {
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", e.Source, e.Line)
	}
	// Output: stdout: hello
}
