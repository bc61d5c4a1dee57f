package node

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/transport"
)

// rereadEvery is the pause between two looks at the files that are followed.
const rereadEvery = 5 * time.Second

// follow has looks look at their files now and then, and at once when asked.
func follow(ctx context.Context, asked <-chan struct{}, looks ...func(asked bool)) {
	tick := time.NewTicker(rereadEvery)
	defer tick.Stop()
	for {
		now := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-asked:
			now = true
		}
		for _, look := range looks {
			look(now)
		}
	}
}

// readSecrets reads the cluster's secrets; none is allowed on loopback only, which config has checked.
func readSecrets(c config.Cluster) ([]transport.Secret, error) {
	text := []byte(c.Secret)
	if c.SecretFile != "" {
		b, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("%w: read cluster.secret_file: %w", ErrNodeFile, err)
		}
		text = b
	} else if c.Secret == "" {
		return nil, nil
	}
	secrets, err := transport.ParseSecrets(text)
	if err != nil {
		return nil, fmt.Errorf("%w: cluster.secret: %w", ErrNodeFile, err)
	}
	return secrets, nil
}

// secretWatch takes over what is written into cluster.secret_file, without a restart.
type secretWatch struct {
	cfg     config.Cluster
	now     []transport.Secret // in use
	install func([]transport.Secret) error
	log     hclog.Logger
	said    string      // the last trouble
	mode    os.FileMode // of the file, when it was last judged
}

// judgeMode warns of a file that others than its owner may read: they can become members. It is used all the same, since a
// node that stays down for it helps nobody. Said once for each mode.
func (w *secretWatch) judgeMode() {
	info, err := os.Stat(w.cfg.SecretFile)
	if err != nil {
		return // reading it says so
	}
	mode := info.Mode().Perm()
	if mode&0o077 != 0 && mode != w.mode {
		w.log.Warn("others than its owner may read cluster.secret_file, and who has the secret holds the database",
			"file", w.cfg.SecretFile, "mode", fmt.Sprintf("%04o", mode), "remedy", "chmod 600 "+w.cfg.SecretFile)
	}
	w.mode = mode
}

// look keeps the secrets in use when the file can't be used: half a file must not cut the node off.
func (w *secretWatch) look(asked bool) {
	if asked {
		w.said, w.mode = "", 0
	}
	w.judgeMode()
	secrets, err := readSecrets(w.cfg)
	if err == nil && slices.Equal(secrets, w.now) {
		w.said = ""
		return
	}
	if err == nil {
		err = w.install(secrets)
	}
	if err != nil {
		if w.said != err.Error() {
			w.said = err.Error()
			w.log.Error("cluster.secret_file can't be used; the secrets read before stay in use", "error", err)
		}
		return
	}
	w.now, w.said = secrets, ""
	w.log.Info("cluster secrets changed", "used", marks(secrets[:1]), "accepted too", marks(secrets[1:]))
}

// marks tells secrets apart without giving anything of them away, so that the logs of nodes can be compared.
func marks(secrets []transport.Secret) string {
	var out []string
	for _, s := range secrets {
		out = append(out, fmt.Sprintf("%x", transport.DeriveKey(s, "quorate/mark/1")[:4]))
	}
	return strings.Join(out, " ")
}

// followFiles begins to follow the secret file and those of an own PKI, where there are any.
func (n *Node) followFiles(ctx context.Context, secrets []transport.Secret) {
	var looks []func(asked bool)
	if n.cfg.Cluster.SecretFile != "" {
		w := &secretWatch{cfg: n.cfg.Cluster, now: secrets, install: n.install, log: n.log}
		w.judgeMode()
		looks = append(looks, w.look)
	}
	if n.certificate != nil {
		looks = append(looks, (&certificateWatch{
			cfg: n.cfg.Cluster.TLS, now: *n.certificate, install: n.cluster.SetCertificate, ends: n.cluster.CertificateEnds, log: n.log,
		}).look)
	}
	if len(looks) > 0 {
		go follow(ctx, n.reread, looks...)
	}
}

// install makes secrets the ones of this node's connections, gossip and admin tokens.
func (n *Node) install(secrets []transport.Secret) error {
	if err := n.cluster.SetSecrets(secrets); err != nil {
		return err
	}
	tokens := tokensOf(secrets)
	n.tokens.Store(tokens)
	n.api.SetTokens(*tokens)
	return nil
}

// tokensOf are the admin tokens of the API, one for each secret.
func tokensOf(secrets []transport.Secret) *[]string {
	tokens := []string{}
	for _, s := range secrets {
		tokens = append(tokens, fmt.Sprintf("%x", transport.DeriveKey(s, "quorate/admin-token/1")))
	}
	return &tokens
}

// passwords gives the passwords that the node file leaves out: the same on every node, from the seed that was drawn at the
// founding (docs/decisions/0010).
type passwords struct {
	dir string // cluster.data_dir
	log hclog.Logger

	mu   sync.Mutex
	seed *transport.Secret // once known
}

// credentials asks for a password that the node file leaves out.
func (p *passwords) credentials(r config.Role, label string) pgctl.Credentials {
	return pgctl.Credentials{Name: r.Username, Password: r.Password, Ask: func() string { return p.of(label) }}
}

// of is empty while this node belongs to no cluster.
func (p *passwords) of(label string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seed == nil {
		seed, ok, err := cluster.PasswordSeed(p.dir)
		if err != nil {
			p.log.Error("the password of a database role can't be derived", "role", label, "error", err)
		}
		if !ok {
			return ""
		}
		p.seed = &seed
	}
	return fmt.Sprintf("%x", transport.DeriveKey(*p.seed, "quorate/password/"+label+"/1")[:16])
}
