package event

// DecodeIDs are a message's token ids as the engine takes them. One beyond an int32 becomes negative,
// which no vocabulary holds.
func DecodeIDs(wire []uint32) []int32 {
	ids := make([]int32, len(wire))
	for i, v := range wire {
		ids[i] = int32(v)
	}
	return ids
}

// EncodeIDs are token ids as messages hold them.
func EncodeIDs(ids []int32) []uint32 {
	wire := make([]uint32, len(ids))
	for i, v := range ids {
		wire[i] = uint32(v)
	}
	return wire
}
