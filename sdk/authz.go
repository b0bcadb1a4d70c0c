package sdk

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"

	"github.com/outletd/outlet/capability/authz"
)

// Decision is what an AuthZ says to a request. The zero value refuses it.
type Decision struct {
	// Allow lets the request, or its answer, go on.
	Allow bool
	// Msg is shown to who asked, if it does not.
	Msg string `json:",omitempty"`
}

// Allow is the decision to let a request go on.
func Allow() Decision { return Decision{Allow: true} }

// Deny is the decision not to, with a reason for who asked.
func Deny(reason string) Decision { return Decision{Msg: reason} }

// AuthZ allows and refuses requests to the host's API (docs/spec/capabilities.md
// §5). An error refuses, too.
//
// A host decodes a body as Go does: names of fields in any case, the last of two
// equal ones wins. Targets are as the client sent them: with or without a
// version, in absolute form, not normalized. A plugin that reads them in another
// way can be talked around; one that does not understand a request should refuse
// it.
type AuthZ interface {
	// AuthZReq decides about a request before it is carried out. /_ping and
	// /version are asked about as well.
	AuthZReq(ctx context.Context, r authz.Request) (Decision, error)
	// AuthZRes decides whether the client sees the answer. What was asked for
	// has happened already.
	AuthZRes(ctx context.Context, r authz.Request) (Decision, error)
}

func (h *Handler) addAuthZ(a AuthZ) {
	if a == nil {
		return
	}
	need := func(r authz.Request) string {
		return missing("RequestMethod", r.RequestMethod, "RequestUri", r.RequestURI)
	}
	ask := func(f func(context.Context, authz.Request) (Decision, error)) method {
		return with(need, func(ctx context.Context, r authz.Request) (any, error) {
			for _, c := range r.RequestPeerCertificates {
				if block, _ := pem.Decode(c); block == nil {
					return nil, WithStatus(http.StatusBadRequest, errors.New("a peer certificate is not PEM"))
				}
			}
			return f(ctx, r)
		})
	}
	h.add(map[string]method{authz.MethodRequest: ask(a.AuthZReq), authz.MethodResponse: ask(a.AuthZRes)})
}
