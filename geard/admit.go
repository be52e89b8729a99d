package geard

import (
	"fmt"
	"strings"

	"gearmesh.dev/api"
)

// admit refuses a pod that is not valid, asks for more than the policy it was admitted under, or
// for more than this host allows. The master has checked all of it: this is for a master that is wrong.
func admit(pod api.Pod, most api.Policy) error {
	if f := pod.Validate(); len(f) > 0 {
		return fmt.Errorf("the master sent a pod that is not valid: %s", lines(f))
	}
	if f := pod.Spec.Policy.Refuses("template", &pod.Spec.Template); len(f) > 0 {
		return fmt.Errorf("the master sent a pod that its own policy does not allow: %s", lines(f))
	}
	if f := most.Refuses("template", &pod.Spec.Template); len(f) > 0 {
		return fmt.Errorf("this host lets pods have no more than policy %q: %s; its operator may change that with --max-policy in GEAR_AGENT_FLAGS of /etc/gear/agent.env",
			most.OrDefault(), lines(f))
	}
	return nil
}

func lines(faults []api.Fault) string {
	out := make([]string, len(faults))
	for i, f := range faults {
		out[i] = f.String()
	}
	return strings.Join(out, "; ")
}
