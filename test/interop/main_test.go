package interop

import (
	"os"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }
