package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// HTTPBasic is a user that may change something by HTTP basic authentication.
type HTTPBasic struct {
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

// AllowList is a list of addresses and networks.
type AllowList []string

// Prefixes are the networks of the list; an address is one of a single host. An error names the entry.
func (l AllowList) Prefixes() ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(l))
	for _, text := range l {
		if addr, err := netip.ParseAddr(text); err == nil {
			addr = addr.Unmap()
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("restapi.allowlist %q is neither an address nor a network like 10.0.0.0/8", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// The values of restapi.verify_client.
const (
	VerifyNone     = "none"
	VerifyOptional = "optional"
	VerifyRequired = "required"
)

func (r RestAPI) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (r.CertFile == "") != (r.KeyFile == "") {
		bad("restapi.certfile %q and restapi.keyfile %q: give both for HTTPS, or neither", r.CertFile, r.KeyFile)
	}
	switch r.VerifyClient {
	case "", VerifyNone:
	case VerifyOptional, VerifyRequired:
		if r.CertFile == "" || r.CAFile == "" {
			bad("restapi.verify_client %s needs restapi.certfile, keyfile and cafile", r.VerifyClient)
		}
	default:
		bad("restapi.verify_client %q: it is %s, %s or %s", r.VerifyClient, VerifyNone, VerifyOptional, VerifyRequired)
	}
	if a := r.Authentication; (a.Username == "") != (a.Password == "") || strings.Contains(a.Username, ":") {
		bad("restapi.authentication: give username, without a colon, and password, or neither")
	}
	if _, err := r.AllowList.Prefixes(); err != nil {
		errs = append(errs, err)
	}
	return errs
}
