// Package runner looks after one container, as the main process of its unit: `gear-run run
// UID/CONTAINER`. It adopts the container when it runs already, creates and starts it otherwise, passes
// its output on to the journal, asks it whether it is ready, tells systemd and the agent how it is,
// and ends with its exit code. systemd then starts the unit again; the back-off between tries is kept here.
//
// There is never a second copy: the engine's name of a container is made of project, pod and
// container alone, and the engine gives a name once.
//
// The container does not depend on this process or on the engine's. When dockerd dies, the container
// runs on (live-restore), its state stays "running" with reason EngineDown, and output and exit
// code are taken up when dockerd is back. When this process is killed, the next one adopts the container and goes on
// with its output where the last one stopped.
package runner
