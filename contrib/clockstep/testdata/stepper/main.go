// Command stepper sets its own wall clock back by an hour and says what it sees of that.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

func main() {
	before := time.Now()
	f, err := os.OpenFile(os.Args[1], os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	back := int64(-3600)
	if err := binary.Write(f, binary.NativeEndian, back); err != nil {
		panic(err)
	}
	after := time.Now()
	fmt.Printf("wall %.0f s, monotonic %.0f s\n", after.Round(0).Sub(before.Round(0)).Seconds(), after.Sub(before).Seconds())
}
