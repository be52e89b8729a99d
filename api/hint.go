package api

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// What Decode says beyond that something is wrong: what was probably meant, and how it is written.

// hint tells how a value that is of another type than t would be written, as the end of a sentence; or "".
func hint(tok json.Token, t reflect.Type) string {
	text, isText := tok.(string)
	switch typeName(t) {
	case aString:
		return quoteHint(tok, t)
	case aList:
		if t.Elem().Kind() == reflect.String && isText {
			return "; write it as [" + quoted(strings.Fields(text)) + "]"
		}
		if tok == json.Delim('{') {
			return "; begin each entry with a hyphen"
		}
	case anObject:
		if t.Kind() == reflect.Map {
			return "; write it as NAME: VALUE"
		}
		fields := keysOf(t)
		if key, _, ok := strings.Cut(text, ":"); ok && fields[key] != nil {
			return "; is the space after the colon missing?"
		}
		return "; it has " + listed(fields)
	case aNumber, aBool:
		if _, err := strconv.ParseFloat(text, 64); isText && (err == nil || text == "true" || text == "false") {
			return "; leave the quotes away"
		}
	}
	return ""
}

// quoteHint is the hint where text is needed.
func quoteHint(tok json.Token, t reflect.Type) string {
	if n, ok := tok.(json.Number); ok {
		if u, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(n)); err != nil {
				return "; " + err.Error()
			}
		}
	}
	if tok == json.Delim('[') || t.Kind() == reflect.Slice {
		return ""
	}
	return "; put it in quotes"
}

// suggest tells where a key that is none of the fields belongs, as the end of a sentence.
func suggest(key string, fields map[string]reflect.Type) string {
	if here := familiar[key]; fields[here] != nil {
		return fmt.Sprintf("; here it is called %q", here)
	}
	if best := Nearest(key, sortedKeys(fields)); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	for _, name := range sortedKeys(fields) {
		inner := fields[name]
		if list := elemOf(inner, reflect.Slice); list != nil {
			inner = list
		}
		if keysOf(inner)[key] != nil && name != "status" {
			return fmt.Sprintf("; it belongs under %q", name)
		}
	}
	if len(fields) > maxListed {
		return ""
	}
	return "; there are " + listed(fields)
}

// maxListed bounds how many fields a message lists.
const maxListed = 10

func listed(fields map[string]reflect.Type) string {
	names := sortedKeys(fields)
	if len(names) > maxListed {
		names = append(names[:maxListed], "…")
	}
	return strings.Join(names, ", ")
}

func quoted(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, strconv.Quote(w))
	}
	return strings.Join(out, ", ")
}

// familiar has fields of Kubernetes and Compose by the names that people bring with them.
var familiar = map[string]string{
	"apiVersion": "version", "containerPort": "port", "depends_on": "after", "entrypoint": "command", "environment": "env",
	"failureThreshold": "failures", "httpGet": "http", "initialDelaySeconds": "delay", "livenessProbe": "live", "namespace": "project",
	"nodeSelector": "placement", "periodSeconds": "interval", "readinessProbe": "ready", "startupProbe": "startup", "stop_grace_period": "stopGrace",
	"stringData": "text", "targetPort": "port", "tcpSocket": "tcp", "terminationGracePeriodSeconds": "stopGrace", "timeoutSeconds": "timeout",
	"volumeMounts": "mounts", "working_dir": "workDir", "workingDir": "workDir",
}
