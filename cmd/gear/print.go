package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"gearmesh.dev/client"
)

// formats are what -o takes.
func formats() []string { return []string{"wide", "json", "yaml", "name"} }

// known gives the formats of a command that has only some of them. Where there is YAML, a path can pick values.
func known(only []string) []string {
	if only == nil {
		only = formats()
	}
	if slices.Contains(only, "yaml") {
		return append(slices.Clone(only), jsonPathPrefix+"PATH")
	}
	return only
}

func formatFlag(cmd *cobra.Command, format *string, only ...string) {
	words := known(only)
	cmd.Flags().StringVarP(format, "output", "o", "", "one of "+strings.Join(words, ", "))
	for i := range words {
		words[i] = strings.TrimSuffix(words[i], "PATH")
	}
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was made just now
	}
}

// show is what a command does that asks the master one thing: it checks the format, asks, and prints the answer in it, or by
// print for people.
func show[T any](a *app, cmd *cobra.Command, format string, ask func(*client.Client) (T, error), print func(T)) error {
	if err := checkFormat(cmd, format, "json", "yaml"); err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	v, err := ask(c)
	switch {
	case err != nil:
		return err
	case format != "":
		return a.printValue(v, format)
	}
	print(v)
	return nil
}

// checkFormat refuses a format that is not known.
func checkFormat(cmd *cobra.Command, format string, only ...string) error {
	words := known(only)
	if strings.HasPrefix(format, jsonPathPrefix) && slices.Contains(words, jsonPathPrefix+"PATH") {
		if _, err := parseJSONPath(format); err != nil {
			return usageError(cmd, "%v", err)
		}
		return nil
	}
	if format == "" || slices.Contains(words, format) {
		return nil
	}
	return usageError(cmd, "there is no format %q%s; there are %s", format, didYouMean(format, words), strings.Join(words, ", "))
}

// asValue tells whether a format shows what the API has, rather than a table.
func asValue(format string) bool {
	return format == "json" || format == "yaml" || strings.HasPrefix(format, jsonPathPrefix)
}

// printValue prints a value as the API has it, in JSON or YAML, or what a path finds in it.
func (a *app) printValue(v any, format string) error {
	p, err := parseJSONPath(format)
	switch {
	case err != nil:
		return err
	case p != nil:
		return a.printPath(v, p, format)
	case format == "yaml":
		text, err := asYAML(v)
		if err != nil {
			return err
		}
		_, err = a.out.Write(text)
		return err
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("printing the answer: %w", err)
	}
	_, err = fmt.Fprintf(a.out, "%s\n", text)
	return err
}

// printLine prints a value as one line of JSON.
func (a *app) printLine(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("printing the answer: %w", err)
	}
	_, err = fmt.Fprintf(a.out, "%s\n", text)
	return err
}

// asYAML prints a value as YAML, with the keys and the order of its JSON.
func asYAML(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("printing the answer: %w", err)
	}
	out, err := yaml.JSONToYAML(text)
	if err != nil {
		return nil, fmt.Errorf("printing the answer as YAML: %w", err)
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// between checks the number of arguments.
func between(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError(c, "%s needs %s", c.CommandPath(), what)
		case len(args) > most:
			return usageError(c, "%s takes %s; %q is too much", c.CommandPath(), orNothing(what), args[most])
		}
		return nil
	}
}

func orNothing(what string) string {
	if what == "" {
		return "nothing"
	}
	return what
}
