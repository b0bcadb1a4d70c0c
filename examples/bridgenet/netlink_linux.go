package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// The few numbers of the kernel's interface that package syscall does not have.
const (
	ipAddress      = 1 // IFA_ADDRESS
	ipLocal        = 2 // IFA_LOCAL
	linkName       = 3 // IFLA_IFNAME
	linkMaster     = 10
	linkInfo       = 18
	linkInfoKind   = 1
	linkInfoData   = 2
	linkVethPeer   = 1
	changeUpDown   = syscall.IFF_UP
	nestedAttrFlag = 1 << 15
)

// message is a netlink request that is being put together.
type message []byte

func newMessage(body []byte) message {
	return append(make(message, syscall.NLMSG_HDRLEN), body...)
}

// attr appends an attribute.
func attr(b []byte, kind uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func name(s string) []byte     { return append([]byte(s), 0) }
func number(n int) []byte      { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }
func link(index int) []byte    { return linkUp(index, false) }
func nested(n uint16) uint16   { return n | nestedAttrFlag }
func word(n uint32) []byte     { return binary.NativeEndian.AppendUint32(nil, n) }
func linkKind(s string) []byte { return attr(nil, linkInfoKind, []byte(s)) }

// linkUp is the head of a request about a link.
func linkUp(index int, up bool) []byte {
	b := make([]byte, 4)
	b = append(b, number(index)...)
	flags := uint32(0)
	if up {
		flags = changeUpDown
	}
	return append(append(b, word(flags)...), word(flags)...)
}

// send sends a request and waits for the kernel's answer.
func (m message) send(kind, flags uint16) error {
	s, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(s) //nolint:errcheck // nothing to lose
	binary.NativeEndian.PutUint32(m[0:], uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], flags|syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	if err := syscall.Sendto(s, m, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 8<<10)
	n, _, err := syscall.Recvfrom(s, buf, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	answers, err := syscall.ParseNetlinkMessage(buf[:n])
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.Header.Type == syscall.NLMSG_ERROR && len(a.Data) >= 4 {
			if errno := int32(binary.NativeEndian.Uint32(a.Data)); errno != 0 {
				return syscall.Errno(-errno)
			}
			return nil
		}
	}
	return errors.New("the kernel does not answer")
}

const create = syscall.NLM_F_CREATE | syscall.NLM_F_EXCL

// addBridge makes a bridge.
func addBridge(bridge string) error {
	b := attr(linkUp(0, true), linkName, name(bridge))
	b = attr(b, nested(linkInfo), linkKind("bridge"))
	if err := newMessage(b).send(syscall.RTM_NEWLINK, create); err != nil {
		return fmt.Errorf("make bridge %s: %w", bridge, err)
	}
	return nil
}

// addPair makes two links that are joined, the first one a port of the bridge.
func addPair(bridge, port, peer string) error {
	master, err := net.InterfaceByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridge, err)
	}
	other := attr(link(0), linkName, name(peer))
	info := linkKind("veth")
	info = attr(info, nested(linkInfoData), attr(nil, nested(linkVethPeer), other))
	b := attr(linkUp(0, true), linkName, name(port))
	b = attr(b, linkMaster, number(master.Index))
	b = attr(b, nested(linkInfo), info)
	if err := newMessage(b).send(syscall.RTM_NEWLINK, create); err != nil {
		return fmt.Errorf("make links %s and %s: %w", port, peer, err)
	}
	return nil
}

// addAddress gives a link an address.
func addAddress(linkName string, p netip.Prefix) error {
	i, err := net.InterfaceByName(linkName)
	if err != nil {
		return err
	}
	family := byte(syscall.AF_INET)
	if p.Addr().Is6() {
		family = syscall.AF_INET6
	}
	b := append([]byte{family, byte(p.Bits()), 0, 0}, number(i.Index)...)
	b = attr(b, ipLocal, p.Addr().AsSlice())
	b = attr(b, ipAddress, p.Addr().AsSlice())
	if err := newMessage(b).send(syscall.RTM_NEWADDR, create); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("address %s of %s: %w", p, linkName, err)
	}
	return nil
}

// removeLink removes a link, and the other one of a pair. None is no error.
func removeLink(linkName string) error {
	i, err := net.InterfaceByName(linkName)
	if err != nil {
		return nil //nolint:nilerr // it is gone, or in a container that takes it along
	}
	if err := newMessage(link(i.Index)).send(syscall.RTM_DELLINK, 0); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("remove %s: %w", linkName, err)
	}
	return nil
}
