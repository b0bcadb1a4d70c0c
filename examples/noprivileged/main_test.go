package main

import (
	"testing"

	"github.com/outletd/outlet/capability/authz"
	"github.com/outletd/outlet/sdk"
	"github.com/outletd/outlet/sdk/sdktest"
)

func TestConforms(t *testing.T) {
	sdktest.Run(t, sdktest.Options{
		Addr:         sdktest.Serve(t, "noprivileged", sdk.Plugin{AuthZ: policy{}}),
		Implements:   []string{"authz"},
		AuthZAllowed: map[string]any{"RequestMethod": "GET", "RequestUri": "/v1.41/containers/json"},
		AuthZDenied:  map[string]any{"RequestMethod": "POST", "RequestUri": "/v1.41/containers/create", "RequestBody": []byte(`{"HostConfig":{"Privileged":true}}`)},
	})
}

func TestDecisions(t *testing.T) {
	for _, tt := range []struct {
		name, method, uri, body string
		allow                   bool
	}{
		{"an ordinary container", "POST", "/v1.41/containers/create", `{"Image":"a","HostConfig":{"NetworkMode":"default"}}`, true},
		{"a privileged one", "POST", "/containers/create", `{"HostConfig":{"Privileged":true}}`, false},
		{"in other letters", "POST", "/containers/create", `{"hostconfig":{"privileged":true}}`, false},
		{"by the last of two", "POST", "/containers/create", `{"HostConfig":{"Privileged":false},"HostConfig":{"Privileged":true}}`, false},
		{"by another path", "POST", "http://x/v1.41/../containers//create?name=a", `{"HostConfig":{"Privileged":true}}`, false},
		{"a privileged process", "POST", "/containers/a/exec", `{"Privileged":true,"Cmd":["sh"]}`, false},
		{"a capability", "POST", "/containers/create", `{"HostConfig":{"CapAdd":["cap_sys_admin"]}}`, false},
		{"a harmless capability", "POST", "/containers/create", `{"HostConfig":{"CapAdd":["NET_BIND_SERVICE"]}}`, true},
		{"the host's processes", "POST", "/containers/create", `{"HostConfig":{"PidMode":"host"}}`, false},
		{"no body where there has to be one", "POST", "/containers/create", "", false},
		{"no JSON where it has to be", "POST", "/containers/create", "{", false},
		{"no body elsewhere", "POST", "/containers/a/start", "", true},
		{"another kind of body", "POST", "/images/x", "[]", true},
	} {
		d, err := policy{}.AuthZReq(t.Context(), authz.Request{RequestMethod: tt.method, RequestURI: tt.uri, RequestBody: []byte(tt.body)})
		if err != nil || d.Allow != tt.allow || !d.Allow && d.Msg == "" {
			t.Errorf("%s: %+v, %v", tt.name, d, err)
		}
	}
}
