package outlet_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

// fill sets everything in v, so that a field that is forgotten shows.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), value)
	case reflect.Interface:
		v.Set(reflect.ValueOf(map[string]any{"list": []any{map[string]any{"a": "b"}}}))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 2)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint32:
		v.SetUint(7)
	default:
		v.SetInt(7)
	}
}

// shares says at which path a and b use the same memory.
func shares(path string, a, b reflect.Value) string {
	if k := a.Kind(); k == reflect.Pointer || k == reflect.Map || k == reflect.Slice {
		if !a.IsNil() && a.Pointer() == b.Pointer() {
			return path
		}
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !a.IsNil() {
			return shares(path, a.Elem(), b.Elem())
		}
	case reflect.Map:
		for _, k := range a.MapKeys() {
			if p := shares(path+"["+k.String()+"]", a.MapIndex(k), b.MapIndex(k)); p != "" {
				return p
			}
		}
	case reflect.Slice:
		for i := range a.Len() {
			if p := shares(path+"[]", a.Index(i), b.Index(i)); p != "" {
				return p
			}
		}
	case reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() {
			return ""
		}
		for i := range a.NumField() {
			if p := shares(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i)); p != "" {
				return p
			}
		}
	default:
	}
	return ""
}

func testClone[T interface{ Clone() T }](t *testing.T) {
	t.Run(reflect.TypeFor[T]().Name(), func(t *testing.T) {
		var v, zero T
		fill(reflect.ValueOf(&v).Elem())
		c := v.Clone()
		if diff := cmp.Diff(v, c); diff != "" {
			t.Errorf("the copy differs:\n%s", diff)
		}
		if p := shares("", reflect.ValueOf(v), reflect.ValueOf(c)); p != "" {
			t.Errorf("the copy shares %s", p)
		}
		if diff := cmp.Diff(zero, zero.Clone()); diff != "" {
			t.Errorf("the copy of nothing is something:\n%s", diff)
		}
	})
}

func TestClonesShareNothing(t *testing.T) {
	testClone[outlet.Config](t)
	testClone[outlet.Settings](t)
	testClone[outlet.Plugin](t)
	testClone[outlet.Status](t)
	testClone[outlet.Volume](t)
	testClone[outlet.Privileges](t)
	testClone[outlet.Message](t)
}

func TestSettingsAndPrivilegesAreNeverNullInJSON(t *testing.T) {
	tests := map[string]any{
		`{"Args":[],"Devices":[],"Env":[],"Mounts":[]}`: outlet.Settings{},
		`[]`: outlet.Privileges(nil),
	}
	for want, v := range tests {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("json %s, %v; want %s", got, err, want)
		}
	}
	var p outlet.Privileges
	if err := json.Unmarshal([]byte("null"), &p); err != nil || len(p) != 0 {
		t.Errorf("null is %v, %v", p, err)
	}
}
