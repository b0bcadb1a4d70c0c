//go:build !unix

package sdktest

import "testing"

func (s *suite) logs(t *testing.T) { t.Skip("there are no FIFOs on this platform") }
