package node

import "github.com/quorate/quorate/transport"

func (n *Node) openAPI(secrets []transport.Secret) (func(), error) { return func() {}, nil }
