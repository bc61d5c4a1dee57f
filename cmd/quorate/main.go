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
	os.Exit(cli.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr, build()))
}

// build is what the go tool recorded of this program.
func build() cli.Build {
	b := cli.Build{Version: "0.0.0-dev"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			b.Tags = s.Value
		}
	}
	return b
}
