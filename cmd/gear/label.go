package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

// labelCmd sets labels, by which services choose hosts, links their zone, and the master where routers run.
func (a *app) labelCmd() *cobra.Command {
	return &cobra.Command{
		Use: "label HOST KEY=VALUE|KEY- ...", Short: "Set labels of a host, and take labels away",
		Long: `Sets labels of a host, by which services are placed and links find their zone. KEY- takes one away. Pods that run stay where
they are, also where they would not be placed any more.`,
		Example: `  gear host label h1 zone=a disk=ssd
  gear host label h1 disk-             # takes it away`,
		Args: between(2, 65, "the name of a host and its labels"), ValidArgsFunction: a.completeNames(api.KindHost),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, drop, err := readLabels(cmd, args[1:])
			if err != nil {
				return err
			}
			return a.setHost(cmd.Context(), args[0], "is labelled", func(h *api.Host) { label(h, set, drop) })
		},
	}
}

// readLabels reads KEY=VALUE and KEY-. Whether a label is a good one is for the master to say.
func readLabels(cmd *cobra.Command, args []string) (set map[string]string, drop []string, err error) {
	set = map[string]string{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			key, ok = strings.CutSuffix(arg, "-")
			drop = append(drop, key)
		} else if old, twice := set[key]; twice && old != value {
			return nil, nil, usageError(cmd, "label %q is given twice", key)
		} else {
			set[key] = value
		}
		if !ok || key == "" {
			return nil, nil, usageError(cmd, "%q is neither KEY=VALUE nor KEY-", arg)
		}
	}
	for _, key := range drop {
		if _, ok := set[key]; ok {
			return nil, nil, usageError(cmd, "label %q is both set and taken away", key)
		}
	}
	return set, drop, nil
}

func label(h *api.Host, set map[string]string, drop []string) {
	labels := map[string]string{}
	maps.Copy(labels, h.Metadata.Labels)
	maps.Copy(labels, set)
	maps.DeleteFunc(labels, func(key, _ string) bool { return slices.Contains(drop, key) })
	h.Metadata.Labels = labels
}
