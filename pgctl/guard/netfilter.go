package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tableOwned gives the table to the netlink socket that makes it: the kernel removes it with the socket, also when
	// this process is killed, and nobody else can flush it away (Linux 5.12; cgroup.kill needs 5.14).
	tableOwned = 0x2
	// rejectPriority lets every filter of the machine's owner drop first: it refuses what would have been let in.
	rejectPriority = 10
	synMask        = 0x17 // FIN, SYN, RST, ACK
	synOnly        = 0x02
	netlinkLimit   = time.Second // for an answer of the kernel
	rejectChain    = "input"
)

// netfilter is the kernel's packet filter as far as refusing new connections needs it. A program nft would have to be
// there and takes tens of milliseconds on a busy machine, one netlink batch some hundred microseconds.
type netfilter struct {
	fd    int
	table string
	seq   uint32
}

// openNetfilter fails where the kernel has no nftables. Whether they may be used is found out by trying.
func openNetfilter(table string) (*netfilter, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(netlinkLimit))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, errors.Join(fmt.Errorf("bound the netlink socket: %w", err), unix.Close(fd))
	}
	return &netfilter{fd: fd, table: table}, nil
}

func (n *netfilter) close() error { return unix.Close(n.fd) }

// refuse answers every new TCP connection to one of the addresses with a RST, until allow; established ones go on. An
// unspecified address means the port on all of them.
func (n *netfilter) refuse(to []netip.AddrPort) error {
	b := n.begin()
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func() {
		b.text(unix.NFTA_TABLE_NAME, n.table)
		b.number(unix.NFTA_TABLE_FLAGS, tableOwned)
	})
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, func() {
		b.text(unix.NFTA_CHAIN_TABLE, n.table)
		b.text(unix.NFTA_CHAIN_NAME, rejectChain)
		b.nest(unix.NFTA_CHAIN_HOOK, func() {
			b.number(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_IN)
			b.number(unix.NFTA_HOOK_PRIORITY, rejectPriority)
		})
		b.text(unix.NFTA_CHAIN_TYPE, "filter")
	})
	for _, a := range to {
		b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, func() {
			b.text(unix.NFTA_RULE_TABLE, n.table)
			b.text(unix.NFTA_RULE_CHAIN, rejectChain)
			b.nest(unix.NFTA_RULE_EXPRESSIONS, func() { b.refusal(a) })
		})
	}
	if err := n.commit(b); err != nil {
		return fmt.Errorf("refuse new connections: %w", err)
	}
	return nil
}

// allow undoes refuse.
func (n *netfilter) allow() error {
	b := n.begin()
	b.message(unix.NFT_MSG_DELTABLE, 0, func() { b.text(unix.NFTA_TABLE_NAME, n.table) })
	if err := n.commit(b); err != nil {
		return fmt.Errorf("allow new connections: %w", err)
	}
	return nil
}

// batch is one transaction in the making: all of it becomes true at once, or nothing.
type batch struct {
	buf  []byte
	seq  *uint32
	last int // where the last message begins
}

func (n *netfilter) begin() *batch {
	b := &batch{seq: &n.seq}
	b.header(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, func() {})
	return b
}

// commit sends the batch and waits for the kernel's word on its last message, or on the first that it refuses.
func (n *netfilter) commit(b *batch) error {
	flags := binary.NativeEndian.Uint16(b.buf[b.last+6:])
	binary.NativeEndian.PutUint16(b.buf[b.last+6:], flags|unix.NLM_F_ACK)
	final := *b.seq
	b.header(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, func() {})
	if err := unix.Sendto(n.fd, b.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send a netlink batch: %w", err)
	}
	buf := make([]byte, 1<<16)
	for {
		got, _, err := unix.Recvfrom(n.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the kernel's answer: %w", err)
		}
		if done, err := answered(buf[:got], binary.NativeEndian.Uint32(b.buf[8:]), final); done {
			return err
		}
	}
}

// answered looks for the kernel's word on the messages from first to final, whose numbers may wrap around: done when it has
// accepted the last of them or refused one. Messages are taken by their length; the rest of one that is cut off is not read.
func answered(buf []byte, first, final uint32) (done bool, err error) {
	for at := 0; at+20 <= len(buf); {
		size := int(binary.NativeEndian.Uint32(buf[at:]))
		seq := binary.NativeEndian.Uint32(buf[at+8:])
		code := int32(binary.NativeEndian.Uint32(buf[at+16:]))
		// An answer to an earlier batch may have come after its limit.
		ours := int32(final-seq) >= 0 && int32(seq-first) >= 0
		if binary.NativeEndian.Uint16(buf[at+4:]) == unix.NLMSG_ERROR && ours && (code != 0 || seq == final) {
			if code != 0 {
				return true, fmt.Errorf("nftables: %w", unix.Errno(-code))
			}
			return true, nil
		}
		at += max(aligned(size), 20)
	}
	return false, nil
}

func aligned(n int) int { return (n + 3) &^ 3 }

// message adds one change of an inet table.
func (b *batch) message(kind, flags uint16, body func()) {
	b.header(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, unix.NFPROTO_INET, 0, body)
}

func (b *batch) header(kind, flags uint16, family byte, resource uint16, body func()) {
	*b.seq++
	b.last = len(b.buf)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0) // the length, below
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, unix.NLM_F_REQUEST|flags)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, *b.seq)
	b.buf = binary.NativeEndian.AppendUint32(b.buf, 0) // from the kernel's point of view: this socket
	b.buf = append(b.buf, family, unix.NFNETLINK_V0)
	b.buf = binary.BigEndian.AppendUint16(b.buf, resource)
	body()
	binary.NativeEndian.PutUint32(b.buf[b.last:], uint32(len(b.buf)-b.last))
}

// attribute adds one whose value put appends.
func (b *batch) attribute(kind uint16, put func()) {
	at := len(b.buf)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, 0)
	b.buf = binary.NativeEndian.AppendUint16(b.buf, kind)
	put()
	binary.NativeEndian.PutUint16(b.buf[at:], uint16(len(b.buf)-at))
	for len(b.buf) != aligned(len(b.buf)) {
		b.buf = append(b.buf, 0)
	}
}

func (b *batch) nest(kind uint16, put func()) { b.attribute(kind|unix.NLA_F_NESTED, put) }

func (b *batch) text(kind uint16, s string) {
	b.attribute(kind, func() { b.buf = append(append(b.buf, s...), 0) })
}

func (b *batch) number(kind uint16, v uint32) {
	b.attribute(kind, func() { b.buf = binary.BigEndian.AppendUint32(b.buf, v) })
}

func (b *batch) value(kind uint16, v []byte) {
	b.nest(kind, func() { b.attribute(unix.NFTA_DATA_VALUE, func() { b.buf = append(b.buf, v...) }) })
}

// refusal is the expressions of one rule: TCP, to this address and port, a SYN alone: send a RST.
func (b *batch) refusal(to netip.AddrPort) {
	if a := to.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() {
		family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
		if a.Is6() {
			family, offset = unix.NFPROTO_IPV6, 24
		}
		b.meta(unix.NFT_META_NFPROTO)
		b.equal([]byte{family})
		b.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, uint32(a.BitLen()/8))
		b.equal(a.AsSlice())
	}
	b.meta(unix.NFT_META_L4PROTO)
	b.equal([]byte{unix.IPPROTO_TCP})
	b.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)
	b.equal(binary.BigEndian.AppendUint16(nil, to.Port()))
	b.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1)
	b.expression("bitwise", func() {
		b.number(unix.NFTA_BITWISE_SREG, unix.NFT_REG_1)
		b.number(unix.NFTA_BITWISE_DREG, unix.NFT_REG_1)
		b.number(unix.NFTA_BITWISE_LEN, 1)
		b.value(unix.NFTA_BITWISE_MASK, []byte{synMask})
		b.value(unix.NFTA_BITWISE_XOR, []byte{0})
	})
	b.equal([]byte{synOnly})
	b.expression("reject", func() { b.number(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_TCP_RST) })
}

func (b *batch) expression(name string, data func()) {
	b.nest(unix.NFTA_LIST_ELEM, func() {
		b.text(unix.NFTA_EXPR_NAME, name)
		b.nest(unix.NFTA_EXPR_DATA, data)
	})
}

func (b *batch) meta(key uint32) {
	b.expression("meta", func() {
		b.number(unix.NFTA_META_DREG, unix.NFT_REG_1)
		b.number(unix.NFTA_META_KEY, key)
	})
}

func (b *batch) payload(base, offset, length uint32) {
	b.expression("payload", func() {
		b.number(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1)
		b.number(unix.NFTA_PAYLOAD_BASE, base)
		b.number(unix.NFTA_PAYLOAD_OFFSET, offset)
		b.number(unix.NFTA_PAYLOAD_LEN, length)
	})
}

func (b *batch) equal(v []byte) {
	b.expression("cmp", func() {
		b.number(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		b.number(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)
		b.value(unix.NFTA_CMP_DATA, v)
	})
}
