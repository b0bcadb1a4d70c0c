package client

import (
	"context"
	"net/http"
	"strconv"

	"github.com/outletd/outlet"
)

// VolumeMount is a mounted volume.
type VolumeMount struct {
	// Mountpoint is a path of the daemon's host.
	Mountpoint string
	// ID is what the mount is ended with.
	ID string
}

// VolumeList gives the volumes of all volume plugins that f selects, and a
// warning for each plugin that could not be asked.
func (c *Client) VolumeList(ctx context.Context, f outlet.VolumeFilter) (outlet.VolumeList, error) {
	values := map[string][]string{"name": f.Names, "driver": f.Drivers, "label": f.Labels}
	if f.Dangling != nil {
		values["dangling"] = []string{strconv.FormatBool(*f.Dangling)}
	}
	return c.VolumeListFiltered(ctx, values)
}

// VolumeListFiltered is [Client.VolumeList] with the filters of the wire as
// they are. A key the daemon does not know is an errdefs.ErrInvalidArgument.
func (c *Client) VolumeListFiltered(ctx context.Context, f map[string][]string) (outlet.VolumeList, error) {
	var list outlet.VolumeList
	resp, err := c.engine(ctx, request{method: http.MethodGet, path: "/volumes", query: filters(f)})
	if err != nil {
		return list, err
	}
	return list, decode(resp, &list)
}

// VolumeCreate creates a volume; creating one again with the same driver gives
// the one there is.
func (c *Client) VolumeCreate(ctx context.Context, v outlet.VolumeCreate) (outlet.Volume, error) {
	var created outlet.Volume
	body, header, err := jsonBody(v)
	if err != nil {
		return created, err
	}
	resp, err := c.engine(ctx, request{method: http.MethodPost, path: "/volumes/create", body: body, header: header})
	if err != nil {
		return created, err
	}
	return created, decode(resp, &created)
}

// VolumeInspect gives one volume.
func (c *Client) VolumeInspect(ctx context.Context, name string) (outlet.Volume, error) {
	var v outlet.Volume
	path, err := volumePath(name, "")
	if err != nil {
		return v, err
	}
	resp, err := c.engine(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return v, err
	}
	return v, decode(resp, &v)
}

// VolumeRemove removes a volume and its data. One that is mounted is an
// errdefs.ErrConflict that names who holds it. With force, one that is not
// there is no error.
func (c *Client) VolumeRemove(ctx context.Context, name string, force bool) error {
	path, err := volumePath(name, "")
	if err != nil {
		return err
	}
	resp, err := c.engine(ctx, request{method: http.MethodDelete, path: path, query: forced(force)})
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}

// VolumeMount mounts a volume under an id; for an empty one the daemon makes
// one. The mount holds the volume's plugin until it is unmounted.
func (c *Client) VolumeMount(ctx context.Context, name, id string) (VolumeMount, error) {
	var m VolumeMount
	resp, err := c.volumeAction(ctx, name, "/mount", id)
	if err != nil {
		return m, err
	}
	return m, decode(resp, &m)
}

// VolumeUnmount ends the mount of an id, or, for an empty one, the only mount
// there is; several are an errdefs.ErrConflict that names them.
func (c *Client) VolumeUnmount(ctx context.Context, name, id string) error {
	resp, err := c.volumeAction(ctx, name, "/unmount", id)
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}

func (c *Client) volumeAction(ctx context.Context, name, action, id string) (*http.Response, error) {
	path, err := volumePath(name, action)
	if err != nil {
		return nil, err
	}
	body, header, err := jsonBody(struct{ ID string }{id})
	if err != nil {
		return nil, err
	}
	return c.extension(ctx, request{method: http.MethodPost, path: path, body: body, header: header})
}
