package sdktest

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"
)

// both fails the test unless an error is in Err and in Error, which is where
// Docker looks for those of IPAM.
func (a answer) both(t *testing.T) {
	t.Helper()
	var failure struct{ Err, Error string }
	if err := json.Unmarshal(a.body, &failure); err != nil || failure.Err == "" || failure.Error == "" {
		t.Errorf("%s: an error has to be in Err and in Error: %s", a.method, a.body)
	}
}

func (s *suite) authz(t *testing.T) {
	ask := func(method string, request map[string]any) (allow bool, msg string) {
		t.Helper()
		var d struct {
			Allow bool
			Msg   string
		}
		s.call(t, dockerHeader, method, request).into(t, &d)
		return d.Allow, d.Msg
	}
	if s.AuthZAllowed != nil {
		if allow, msg := ask("AuthZPlugin.AuthZReq", s.AuthZAllowed); !allow {
			t.Errorf("the request is refused: %s", msg)
		}
		answered := maps.Clone(s.AuthZAllowed)
		maps.Copy(answered, args{"ResponseStatusCode": 200, "ResponseBody": []byte("{}"), "ResponseHeaders": map[string]string{"Content-Type": "application/json"}})
		if allow, msg := ask("AuthZPlugin.AuthZRes", answered); !allow {
			t.Errorf("the answer is refused: %s", msg)
		}
	}
	if s.AuthZDenied != nil {
		if allow, msg := ask("AuthZPlugin.AuthZReq", s.AuthZDenied); allow || msg == "" {
			t.Errorf("allowed: %v, reason: %q", allow, msg)
		}
	}
	// The largest body that Docker forwards, in both phases.
	large := args{"RequestMethod": "POST", "RequestUri": "/v1.48/containers/create", "RequestBody": bytes.Repeat([]byte(" "), 4<<20)}
	s.call(t, dockerHeader, "AuthZPlugin.AuthZReq", large)
	// A certificate that cannot be read must not be skipped.
	bad := args{"RequestMethod": "GET", "RequestUri": "/_ping", "RequestPeerCertificates": [][]byte{[]byte("none")}}
	s.call(t, dockerHeader, "AuthZPlugin.AuthZReq", bad).refused(t)
}

func (s *suite) metrics(t *testing.T) {
	for _, body := range []any{nil, args{}} {
		s.call(t, dockerHeader, "MetricsCollector.StartMetrics", body).ok(t)
		s.call(t, dockerHeader, "MetricsCollector.StartMetrics", body).ok(t) // the host was started again
		s.call(t, dockerHeader, "MetricsCollector.StopMetrics", body).ok(t)
		s.call(t, dockerHeader, "MetricsCollector.StopMetrics", body).ok(t)
	}
}

func (s *suite) secrets(t *testing.T) {
	for name, want := range s.Secrets {
		var got struct {
			Value      []byte
			DoNotReuse bool
		}
		s.call(t, dockerHeader, "SecretProvider.GetSecret", args{
			"SecretName": name, "ServiceName": "web", "TaskID": token()[:25], "TaskName": "web.1",
			"ServiceEndpointSpec": args{"Mode": 0, "Ports": []args{{"Protocol": 0, "TargetPort": 80, "PublishedPort": 8080, "PublishMode": 0}}},
		}).into(t, &got)
		if string(got.Value) != want {
			t.Errorf("secret %s is %q, want %q", name, got.Value, want)
		}
	}
	s.call(t, dockerHeader, "SecretProvider.GetSecret", args{"SecretName": "sdktest-" + token()}).refused(t)
}
