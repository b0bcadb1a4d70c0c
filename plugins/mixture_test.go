package plugins_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
)

// Whatever servers do to connections and callers to calls, an answer is given to
// the call that it is for.
func TestAnswersBelongToTheirCalls(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			addr, config := moodyServer(t, secure)
			c := client(t, addr, plugins.ClientOptions{TLS: config, RetryBudget: -1, MaxIdleConns: 16})
			var good, bad atomic.Int32
			var wg sync.WaitGroup
			for g := range 32 {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(7, uint64(g)))
					for i := range 100 {
						id := fmt.Sprintf("%d-%d-%s", g, i, strings.Repeat("x", random.IntN(1<<random.IntN(17))))
						if got, err := moodyCall(c, random, id); err != nil {
							bad.Add(1)
						} else if got == id {
							good.Add(1)
						} else {
							t.Errorf("call %.20s got the answer for %.20s", id, got)
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%d answers, %d failures", good.Load(), bad.Load())
			if good.Load() < 500 {
				t.Errorf("only %d of 3200 calls got an answer", good.Load())
			}
		})
	}
}

// moodyCall makes one of several kinds of calls, some with little patience, and
// returns what was answered.
func moodyCall(c *plugins.Client, random *rand.Rand, id string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if random.IntN(8) == 0 {
		impatient := time.AfterFunc(time.Duration(random.IntN(2000))*time.Microsecond, cancel)
		defer impatient.Stop()
	}
	var answer struct{ ID string }
	switch random.IntN(3) {
	case 0:
		s, err := c.StreamContext(ctx, "A.B", map[string]string{"ID": id})
		if err != nil {
			return "", err
		}
		defer s.Close()
		if random.IntN(4) == 0 {
			_, _ = s.Read(make([]byte, 3)) // and loses interest
			return "", errors.New("given up")
		}
		var text strings.Builder
		if _, err := io.Copy(&text, s); err != nil {
			return "", err
		}
		_, rest, _ := strings.Cut(text.String(), `"ID":"`)
		return strings.TrimSuffix(strings.TrimSpace(rest), `"}`), nil
	case 1:
		err := c.SendFileContext(ctx, "A.B", strings.NewReader(`{"ID":"`+id+`"}`), &answer)
		return answer.ID, err
	}
	err := c.CallContext(ctx, "A.B", map[string]string{"ID": id}, &answer)
	return answer.ID, err
}

// moodyServer answers with what it was sent, and now and then closes connections
// without saying so, says something that nobody asked for, or breaks off.
func moodyServer(t *testing.T, secure bool) (string, *tls.Config) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	scheme := "tcp://"
	var config *tls.Config
	var cert tls.Certificate
	if secure {
		dir := authority(t, "server")
		cert, err = tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
		must(t, err)
		scheme, config = "https://", &tls.Config{InsecureSkipVerify: true}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for seed := uint64(0); ; seed++ {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer raw.Close()
				nc := raw
				if secure {
					nc = tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}})
				}
				serveMoodily(nc, rand.New(rand.NewPCG(seed, 1)))
			})
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	return scheme + l.Addr().String(), config
}

func serveMoodily(nc net.Conn, random *rand.Rand) {
	br := bufio.NewReader(nc)
	for {
		path, body := readRequest(br)
		if path == "" {
			return
		}
		body = strings.TrimSpace(body)
		answer := ok(body)
		switch random.IntN(3) {
		case 0:
			half := len(body) / 2
			answer = fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\nT: x\r\n\r\n",
				half, body[:half], len(body)-half, body[half:])
		case 1:
			answer = "HTTP/1.1 100 Continue\r\n\r\n" + answer
		}
		mood := random.IntN(40)
		switch mood {
		case 0:
			answer = answer[:random.IntN(len(answer))]
		case 1:
			answer += ok(`{"ID":"unasked"}`)
		case 2:
			answer = "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
		}
		if _, err := io.WriteString(nc, answer); err != nil || mood == 0 || mood == 3 {
			return
		}
	}
}
