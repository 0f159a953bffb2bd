package run

import (
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	const id = "01932f6e8b7c7abc8def0123456789ab"
	if seq, ok := AnswerSeq(AnswerKey(id, 42)); !ok || seq != 42 {
		t.Errorf("the letter of %s is %d, %v", AnswerKey(id, 42), seq, ok)
	}
	for _, key := range []string{"", "dead." + id + ".x", "dead." + id + ".", "dead." + id + ".-1"} {
		if seq, ok := AnswerSeq(key); ok {
			t.Errorf("%q names letter %d", key, seq)
		}
	}
	for _, a := range []Answer{{}, {Action: "bury"}, {Action: Skip, Reason: strings.Repeat("x", 1001)}} {
		if a.Validate() == nil {
			t.Errorf("%+v is taken", a)
		}
	}
	for _, a := range []Action{Requeue, Skip} {
		if err := (Answer{Action: a}).Validate(); err != nil {
			t.Error(err)
		}
	}
}
