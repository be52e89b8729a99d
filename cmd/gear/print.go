package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// formats are what -o takes.
func formats() []string { return []string{"wide", "json", "yaml", "name"} }

func formatFlag(cmd *cobra.Command, format *string, only ...string) {
	known := only
	if known == nil {
		known = formats()
	}
	cmd.Flags().StringVarP(format, "output", "o", "", "one of "+strings.Join(known, ", "))
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was made just now
	}
}

// checkFormat refuses a format that is not known.
func checkFormat(cmd *cobra.Command, format string, only ...string) error {
	known := only
	if known == nil {
		known = formats()
	}
	if format == "" || slices.Contains(known, format) {
		return nil
	}
	return usageError(cmd, "there is no format %q%s; there are %s", format, didYouMean(format, known), strings.Join(known, ", "))
}

// printValue prints a value as the API has it, in JSON or YAML.
func (a *app) printValue(v any, format string) error {
	if format == "yaml" {
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
