// Command quorate keeps PostgreSQL available. It must never do more here than run a command line.
package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"github.com/quorate/quorate/cli"
)

func main() {
	// Postgres is killed when the thread that forked it ends, and the guard forks it from this one.
	runtime.LockOSThread()
	os.Exit(cli.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr, version()))
}

// version is the module's, as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "0.0.0-dev"
	}
	return info.Main.Version
}
