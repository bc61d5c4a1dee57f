package config

import (
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
)

// hidden stands for what nobody shall see.
const hidden = "(given, not shown)"

// YAML renders what is used, with all defaults, for people. It has no secrets.
func (c Config) YAML() (string, error) {
	a := &c.PostgreSQL.Authentication
	for _, secret := range []*string{&c.Cluster.Secret, &a.Superuser.Password, &a.Replication.Password} {
		if *secret != "" {
			*secret = hidden
		}
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("render the node file: %w", err)
	}
	return string(b), nil
}

// JSON renders the same for programs.
func (c Config) JSON() (json.RawMessage, error) {
	text, err := c.YAML()
	if err != nil {
		return nil, err
	}
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("render the node file: %w", err)
	}
	return b, nil
}
