package outlet

// Signature is what somebody said of a plugin, in the form of cosign, and their
// signature below it. Nothing of it is verified.
type Signature struct {
	Payload   []byte // what was signed
	Signature []byte
}
