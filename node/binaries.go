package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quorate/quorate/internal/pg"
)

// findBinaries picks a Postgres of Debian's layout for a node file that names none.
func findBinaries(dataDir string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", fmt.Errorf("look for Postgres: %w", err)
	}
	content, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return pickBinaries(found, 0, dataDir)
	}
	if err != nil {
		return "", fmt.Errorf("find out of which version the data directory is: %w", err)
	}
	of, err := pg.ParseVersionFile(string(content))
	if err != nil {
		return "", fmt.Errorf("find out of which version %s is: %w", dataDir, err)
	}
	return pickBinaries(found, of, dataDir)
}

// pickBinaries takes the newest of the directories .../VERSION/bin, or for data of version of that one.
func pickBinaries(found []string, of pg.MajorVersion, dataDir string) (string, error) {
	best, version, all := "", 0, []string{}
	for _, dir := range found {
		v, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil {
			continue
		}
		all = append(all, strconv.Itoa(v))
		if of != 0 && v == int(of) || of == 0 && v > version {
			best, version = dir, v
		}
	}
	switch {
	case best != "":
		return best, nil
	case of != 0:
		return "", fmt.Errorf("%s is of PostgreSQL %d, and below /usr/lib/postgresql there is: %s; install postgresql-%d or "+
			"set postgresql.bin_dir",
			dataDir, of, strings.Join(all, ", "), of)
	}
	return "", errors.New("no Postgres below /usr/lib/postgresql: install postgresql-15 or set postgresql.bin_dir")
}
