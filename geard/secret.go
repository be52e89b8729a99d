package geard

import (
	"context"
	"errors"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/secrets"
	"gearmesh.dev/internal/loop"
)

// keepSecrets puts what a pod needs of secrets beside it on disk, sealed. What the master has not sent
// is an error only where the disk has nothing either.
func (a *Agent) keepSecrets(pod api.Pod) error {
	if len(pod.Spec.SecretRefs()) == 0 {
		return nil
	}
	v, err := secrets.Of(pod, a.mem.get().Secrets)
	if err != nil {
		if _, kept := a.secrets.Load(pod.Metadata.UID); kept == nil {
			return nil
		}
		return err
	}
	return a.secrets.Save(pod.Metadata.UID, v)
}

// secretsStale tells whether a pod has other secrets than the master has sent. While the master has not
// sent all of them, what is there stays.
func (a *Agent) secretsStale(pod api.Pod) bool {
	if len(pod.Spec.SecretRefs()) == 0 {
		return false
	}
	v, err := secrets.Of(pod, a.mem.get().Secrets)
	if err != nil {
		return false
	}
	if !a.secrets.Has(pod.Metadata.UID, v) {
		return true
	}
	for _, c := range pod.Spec.Template.All() {
		if a.containerStale(pod, c, v) {
			return true
		}
	}
	return false
}

// containerStale tells whether a container was given other values than these. One that was given nothing
// gets them when it starts.
func (a *Agent) containerStale(pod api.Pod, c api.Container, v secrets.Values) bool {
	laid := a.secrets.Laid(pod.Metadata.UID, c.Name)
	return secrets.Uses(c) && laid != "" && laid != a.secrets.Fingerprint(pod.Metadata.UID, c, v)
}

// renewSecrets gives the containers of a pod their secrets as they are now: on disk first, so that one that
// restarts by itself meanwhile has them too.
func (a *Agent) renewSecrets(ctx context.Context, pod api.Pod) error {
	if err := a.keepSecrets(pod); err != nil {
		return err
	}
	v, err := a.secrets.Load(pod.Metadata.UID)
	if err != nil {
		return err
	}
	for _, c := range pod.Spec.Template.All() {
		if a.containerStale(pod, c, v) {
			err = errors.Join(err, a.renewContainer(ctx, pod, c))
		}
	}
	return err
}

func (a *Agent) renewContainer(ctx context.Context, pod api.Pod, c api.Container) error {
	a.log.Info("secrets have changed", "pod", pod.Metadata.Name, "container", c.Name, "do", c.OnSecretChange)
	if c.OnSecretChange == "" || c.OnSecretChange == api.SecretRestart {
		return a.restartContainer(ctx, pod, c)
	}
	if err := a.secrets.Lay(pod, c); err != nil {
		return err
	}
	if err := secrets.DropEnv(a.cfg.Dirs, pod.Metadata.UID, c); err != nil {
		return err
	}
	if signal := c.OnSecretChange.Signal(); signal != "" {
		return a.cfg.Machine.Renew(ctx, pod, c.Name, signal)
	}
	return nil
}

// restartPatience is how long after its grace a container that is restarted may still have its old secrets.
const restartPatience = 30 * time.Second

// restartContainer restarts a container and waits until its old secrets are gone, so that no second
// restart is asked for meanwhile.
func (a *Agent) restartContainer(ctx context.Context, pod api.Pod, c api.Container) error {
	old := a.secrets.Laid(pod.Metadata.UID, c.Name)
	if err := a.cfg.Machine.Renew(ctx, pod, c.Name, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.StopGrace.Std()+restartPatience)
	defer cancel()
	for a.secrets.Laid(pod.Metadata.UID, c.Name) == old && ctx.Err() == nil {
		loop.Sleep(ctx, 50*time.Millisecond)
	}
	return ctx.Err()
}

// secretsArrived makes the pods that wait for secrets try again at once.
func (a *Agent) secretsArrived() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.pods {
		if w.progress.Reason == api.ReasonSecret {
			w.retry = time.Time{}
		}
	}
}
