package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Code says what kind of error an answer is, for programs. Each has one HTTP status.
type Code string

// The codes of errors.
const (
	CodeBadRequest   Code = "BadRequest"   // the request cannot be read
	CodeInvalid      Code = "Invalid"      // it can be read, but a field is wrong
	CodeUnauthorized Code = "Unauthorized" // no identity, or a wrong one
	CodeForbidden    Code = "Forbidden"    // the identity may not do this at all
	CodeNotFound     Code = "NotFound"     // does not exist, or is not yours to see
	CodeExists       Code = "AlreadyExists"
	CodeConflict     Code = "Conflict" // changed since it was read
	CodeTooLarge     Code = "TooLarge"
	CodeRateLimited  Code = "RateLimited"
	CodeGone         Code = "Gone"        // the revision to watch from is no longer kept: list again
	CodeUnavailable  Code = "Unavailable" // cannot be done now; try again
	CodeInternal     Code = "Internal"
)

// Status gives the HTTP status of a code.
func (c Code) Status() int {
	switch c {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeInvalid:
		return http.StatusUnprocessableEntity
	case CodeUnauthorized:
		return http.StatusUnauthorized
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeExists, CodeConflict:
		return http.StatusConflict
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeRateLimited:
		return http.StatusTooManyRequests
	case CodeGone:
		return http.StatusGone
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Error is the answer to a request that was not carried out: RFC 9457 problem details, sent as
// application/problem+json. Code is for programs, Detail and Faults for people.
type Error struct {
	Title  string  `json:"title" doc:"The HTTP status in words"`
	Status int     `json:"status"`
	Code   Code    `json:"code"`
	Detail string  `json:"detail,omitempty" doc:"What is wrong and what would be right"`
	Faults []Fault `json:"faults,omitempty" doc:"Every fault of the request's fields"`
}

// Fault is one thing wrong with one field.
type Fault struct {
	Field   string `json:"field" doc:"Path of the field" example:"spec.containers[0].image"`
	Message string `json:"message" doc:"What is wrong, and what would be right"`
}

// String gives the fault as people read it.
func (f Fault) String() string { return f.Field + ": " + f.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Title: http.StatusText(code.Status()), Status: code.Status(), Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Invalid makes the Error of a resource with faults.
func Invalid(what string, faults []Fault) *Error {
	e := Errorf(CodeInvalid, "%s is not valid", what)
	e.Faults = faults
	return e
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	if e.Detail == "" {
		b.WriteString(e.Title)
	}
	for _, f := range e.Faults {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// faults gathers what Validate finds.
type faults []Fault

// add notes err, when there is one, at a field, or at the field of it that err names.
func (f *faults) add(field string, err error) {
	if err == nil {
		return
	}
	if in := (inField{}); errors.As(err, &in) {
		field += "." + in.field
	}
	*f = append(*f, Fault{Field: field, Message: err.Error()})
}

// inField is an error of a field of what is checked.
type inField struct {
	field string
	error
}

// in says which field an error is about, when there is one.
func in(field string, err error) error {
	if err == nil {
		return nil
	}
	return inField{field, err}
}

// addf notes a fault at a field.
func (f *faults) addf(field, format string, args ...any) {
	*f = append(*f, Fault{Field: field, Message: fmt.Sprintf(format, args...)})
}
