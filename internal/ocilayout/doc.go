// Package ocilayout reads and writes OCI image layouts as tar streams, the form
// in which plugins travel without a registry: an index, and blobs named by their
// digests, in any order.
//
// It stores nothing, unpacks no layer, and does not decide what a manifest means
// to a plugin. What it reads is hostile: names are compared with those a layout
// has and never used as paths, and everything is bounded. The bytes of documents
// are verified here; the bytes of other blobs by whoever stores them.
package ocilayout
