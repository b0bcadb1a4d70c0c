package authz_test

import (
	"errors"
	"net/http"

	"github.com/outletd/outlet/capability/authz"
)

// A server asks before it handles a request, and shows the plugin every byte
// that the handler gets.
func Example() {
	ask := func(c *authz.Client, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := &authz.Request{RequestMethod: r.Method, RequestURI: r.RequestURI, RequestHeaders: authz.Headers(r.Header)}
			if authz.Forwards(r.Header.Get("Content-Type"), r.URL.Path) {
				shown, same, err := authz.TakeBody(r.Body, authz.MaxBody)
				if err != nil {
					http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
					return
				}
				q.RequestBody, r.Body = shown, same
			}
			err := c.AllowRequest(r.Context(), q)
			var denied *authz.DeniedError
			switch {
			case err == nil:
				next.ServeHTTP(w, r)
			case errors.As(err, &denied):
				http.Error(w, err.Error(), http.StatusForbidden)
			default:
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	_ = ask
}
