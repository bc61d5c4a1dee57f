package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// strict decodes the body, which is like that, into v; false: it is no such document, and that was answered.
func strict(w http.ResponseWriter, r *http.Request, like string, v any) bool {
	return strictOr(w, r, like, v, false)
}

// strictOr is strict where an optional body may be left out.
func strictOr(w http.ResponseWriter, r *http.Request, like string, v any, optional bool) bool {
	err := decodeOne(r.Body, v)
	if err == nil || optional && errors.Is(err, io.EOF) {
		return true
	}
	problem(w, http.StatusBadRequest, CodeInvalid, "the body is not "+like+": "+err.Error())
	return false
}

// decodeOne decodes exactly one JSON value without unknown fields: of two, the caller may have meant the other. io.EOF: there is none.
func decodeOne(from io.Reader, v any) error {
	d := json.NewDecoder(from)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}
