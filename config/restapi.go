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
			return nil, fmt.Errorf("%q is neither an address nor a network like 10.0.0.0/8", text)
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

func (r *reader) checkRestAPI(a RestAPI) {
	if (a.CertFile == "") != (a.KeyFile == "") {
		r.bad("restapi.certfile", "%q, and restapi.keyfile%s is %q: give both for HTTPS, or neither", a.CertFile, r.where("restapi.keyfile"), a.KeyFile)
	}
	switch a.VerifyClient {
	case "", VerifyNone:
	case VerifyOptional, VerifyRequired:
		if a.CertFile == "" || a.CAFile == "" {
			r.bad("restapi.verify_client", "%s needs restapi.certfile, keyfile and cafile", a.VerifyClient)
		}
	default:
		r.bad("restapi.verify_client", "%q: it is %s, %s or %s", a.VerifyClient, VerifyNone, VerifyOptional, VerifyRequired)
	}
	if u := a.Authentication; (u.Username == "") != (u.Password == "") || strings.Contains(u.Username, ":") {
		r.bad("restapi.authentication", "give username, without a colon, and password, or neither")
	}
	if _, err := a.AllowList.Prefixes(); err != nil {
		r.bad("restapi.allowlist", "%v", err)
	}
}
