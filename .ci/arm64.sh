#!/bin/sh
# Runs the tests of the arm64 kernels, and small models on them, under qemu-user: on everything that
# qemu can emulate, and the kernels on a Cortex-A53 too, which has no extension at all. Emulation is
# slow: large shapes (-short) and portable Go are left to other machines.
set -eu
export CGO_ENABLED=0 GOARCH=arm64
go test -short -skip /portable -exec qemu-aarch64 ./compute/cpu
go test -short -skip /portable -exec qemu-aarch64 -run 'TestCPUIsRef|TestDecoderIsPass$|TestForestIsChains' ./pkg/model
go test -short -skip /portable -exec 'qemu-aarch64 -cpu cortex-a53' \
	-run 'Suite|Tiles|TestRows|Kernel|Exp|Narrow|Above|Maximum' ./compute/cpu
GOARCH= go test ./compute/cpu/internal/neon
