package node

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/config"
)

// TestAccess: the node file says who may change something, and a certificate that can't be read keeps the node from starting.
func TestAccess(t *testing.T) {
	n := &Node{log: hclog.NewNullLogger()}
	n.cfg.RestAPI = config.RestAPI{
		ConnectAddress: "10.0.0.1:8008", Authentication: config.HTTPBasic{Username: "u", Password: "p"}, AllowList: []string{"10.0.0.0/8"},
	}
	a, serve, err := n.access()
	if err != nil || serve != nil || a.Username != "u" || a.Password != "p" || a.ClientCerts || len(a.Allow) != 1 {
		t.Errorf("%+v %v %v", a, serve, err)
	}
	if got := apiAddress(n.cfg.RestAPI); got != "10.0.0.1:8008" {
		t.Error(got)
	}
	n.cfg.RestAPI.CertFile, n.cfg.RestAPI.KeyFile = "/none", "/none"
	if _, _, err := n.access(); err == nil || !strings.Contains(err.Error(), "restapi.certfile") {
		t.Errorf("a certificate that is not there: %v", err)
	}
	if got := apiAddress(n.cfg.RestAPI); got != "https://10.0.0.1:8008" {
		t.Error(got)
	}
}
