package host

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// program is what is of interest of an ELF file. It is read by hand: debug/elf
// may panic and use much memory on a file made to do that.
type program struct {
	kind    elf.Type
	machine elf.Machine
	class   elf.Class
	little  bool
	loader  string // "": it needs none
}

var errDamaged = errors.New("its header makes no sense")

const (
	maxProgramHeaders = 256
	maxLoader         = 4096
)

// readProgram reads the headers of an ELF file.
func readProgram(r io.ReaderAt) (program, error) {
	var p program
	head := make([]byte, 64)
	if n, err := r.ReadAt(head, 0); err != nil && (!errors.Is(err, io.EOF) || n < 52) {
		return p, errDamaged
	}
	p.class, p.little = elf.Class(head[elf.EI_CLASS]), elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2LSB
	order := binary.ByteOrder(binary.BigEndian)
	if p.little {
		order = binary.LittleEndian
	} else if elf.Data(head[elf.EI_DATA]) != elf.ELFDATA2MSB {
		return p, errDamaged
	}
	p.kind, p.machine = elf.Type(order.Uint16(head[16:])), elf.Machine(order.Uint16(head[18:]))
	var table int64
	var size, count int
	switch p.class {
	case elf.ELFCLASS64:
		table, size, count = int64(order.Uint64(head[32:])), int(order.Uint16(head[54:])), int(order.Uint16(head[56:]))
	case elf.ELFCLASS32:
		table, size, count = int64(order.Uint32(head[28:])), int(order.Uint16(head[42:])), int(order.Uint16(head[44:]))
	default:
		return p, errDamaged
	}
	want := 56
	if p.class == elf.ELFCLASS32 {
		want = 32
	}
	if count > 0 && (size != want || count > maxProgramHeaders || table < 0) {
		return p, errDamaged
	}
	headers := make([]byte, size*count)
	if _, err := r.ReadAt(headers, table); err != nil && count > 0 && !errors.Is(err, io.EOF) {
		return p, errDamaged
	}
	for h := range slicesOf(headers, want) {
		if elf.ProgType(order.Uint32(h)) != elf.PT_INTERP {
			continue
		}
		offset, length := int64(order.Uint32(h[4:])), int64(order.Uint32(h[16:]))
		if p.class == elf.ELFCLASS64 {
			offset, length = int64(order.Uint64(h[8:])), int64(order.Uint64(h[32:]))
		}
		if offset < 0 || length < 0 || length > maxLoader {
			return p, errDamaged
		}
		b := make([]byte, length)
		if _, err := r.ReadAt(b, offset); err != nil {
			return p, errDamaged
		}
		b, _, _ = bytes.Cut(b, []byte{0})
		p.loader = string(b)
	}
	return p, nil
}

// slicesOf yields b in pieces of n bytes.
func slicesOf(b []byte, n int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(b) >= n; b = b[n:] {
			if !yield(b[:n]) {
				return
			}
		}
	}
}

// arch returns the architecture the program was built for, as Go names it.
func (p program) arch() string {
	switch p.machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_386:
		return "386"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_PPC64:
		if p.little {
			return "ppc64le"
		}
		return "ppc64"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_LOONGARCH:
		return "loong64"
	case elf.EM_MIPS:
		arch := "mips"
		if p.class == elf.ELFCLASS64 {
			arch = "mips64"
		}
		if p.little {
			arch += "le"
		}
		return arch
	default:
		return strings.ToLower(strings.TrimPrefix(p.machine.String(), "EM_"))
	}
}

// runsOn says whether programs for arch run on a host. Whether a 64-bit ARM
// runs 32-bit programs depends on the processor; it gets the benefit of the
// doubt.
func runsOn(arch, host string) bool {
	return arch == host || host == "amd64" && arch == "386" || host == "arm64" && arch == "arm"
}
