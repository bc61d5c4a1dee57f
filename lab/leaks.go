package lab

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/lab/judge"
)

// passwordSeed is the key, in what a member keeps of its membership, that the passwords of database roles are derived from.
var passwordSeed = regexp.MustCompile(`"seed":"([0-9a-f]{64})"`)

// secrets are what nobody may read anywhere: the lab's password, the keys that are in the directory of a member, and the password by
// which standbys stream, which is derived from one of them. The admin token, which is derived from another, is never sent in a lab.
func (l *Lab) secrets(member *Node) ([]judge.Secret, error) {
	secret, err := os.ReadFile(filepath.Join(member.Data(), config.SecretName))
	if err != nil {
		return nil, fmt.Errorf("read the secret to look for: %w", err)
	}
	kept := filepath.Join(member.Data(), "identity.bin")
	identity, err := os.ReadFile(kept)
	if err != nil {
		return nil, fmt.Errorf("read the password seed to look for: %w", err)
	}
	seed := passwordSeed.FindSubmatch(identity)
	if seed == nil {
		return nil, fmt.Errorf("%s has no password seed to look for", kept)
	}
	kept = filepath.Join(member.Data(), "postgres", "postgres", "pgpass")
	line, err := os.ReadFile(kept)
	if err != nil {
		return nil, fmt.Errorf("read the replication password to look for: %w", err)
	}
	streams := strings.TrimSpace(string(line[bytes.LastIndexByte(line, ':')+1:]))
	if streams == "" {
		return nil, fmt.Errorf("%s has no replication password to look for", kept)
	}
	all := []judge.Secret{
		{Name: "the password of postgres and the lab's roles", Value: []byte(l.Password)},
		{Name: "the replication password", Value: []byte(streams)},
	}
	for _, key := range []judge.Secret{
		{Name: "cluster.secret", Value: []byte(strings.TrimSpace(string(secret)))},
		{Name: "the password seed", Value: seed[1]},
	} {
		all = append(all, key)
		if raw, err := hex.DecodeString(string(key.Value)); err == nil {
			all = append(all, judge.Secret{Name: "the bytes of " + key.Name, Value: raw})
		}
	}
	return all, nil
}

// leaks looks for the lab's secrets in what daemons and servers wrote and what the API tells.
func (c *chaos) leaks(ctx context.Context) ([]judge.Violation, error) {
	secrets, err := c.l.secrets(c.l.data()[0])
	if err != nil {
		return nil, err
	}
	if err := c.keepAnswers(ctx); err != nil {
		return nil, err
	}
	if err := c.keepLogs(); err != nil {
		return nil, err
	}
	places := []string{c.dir}
	for _, n := range c.l.data() {
		places = append(places, filepath.Join(n.Data(), "postgres", "evidence"))
	}
	var found []judge.Violation
	for _, place := range places {
		err := filepath.WalkDir(place, func(file string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			found = append(found, judge.NoSecret(file, content, secrets)...)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for secrets: %w", err)
		}
	}
	return found, nil
}

// keepAnswers keeps what the API tells.
func (c *chaos) keepAnswers(ctx context.Context) error {
	for _, n := range c.l.Nodes {
		api := client.Unix(n.Socket())
		status, errStatus := api.Status(ctx)
		explain, errExplain := api.Explain(ctx)
		past, errHistory := api.History(ctx)
		settings, errConfig := api.ConfigHistory(ctx)
		members, errMembers := api.Members(ctx)
		if err := errors.Join(errStatus, errExplain, errHistory, errConfig, errMembers); err != nil {
			return fmt.Errorf("ask %s: %w", n.Name, err)
		}
		b, err := json.MarshalIndent([]any{status, explain, past, settings, members}, "", " ")
		if err != nil {
			return fmt.Errorf("encode the answers of %s: %w", n.Name, err)
		}
		if err := os.WriteFile(filepath.Join(c.dir, n.Name+"-answers.json"), b, 0o644); err != nil {
			return fmt.Errorf("keep the answers of %s: %w", n.Name, err)
		}
	}
	return nil
}
