// Package fault marks the places at which a process may die, for the trials of services/e2e/chaos:
//
//	fault.Point(fault.RecorderInserted)
//
// A binary that is built with the tag fault kills itself at the point that $SPIN_FAULT names, as kill -9
// would: `SPIN_FAULT=recorder.inserted`, or `recorder.inserted:3` for the third time that it comes by.
// In every other binary Point does nothing and the compiler removes it.
//
// There is a point between any two effects of a service that others see: what is there and what is
// still missing when it dies is a state of its own, that a restart has to cope with.
package fault

// Points, in the order in which a run comes by them.
const (
	TrainerTaken     = "trainer.taken"     // the run is marked as running
	TrainerBase      = "trainer.base"      // the given model is a checkpoint
	TrainerStarted   = "trainer.started"   // a stage is marked as started
	TrainerQueued    = "trainer.queued"    // a task is in the queue, others are not
	TrainerCollected = "trainer.collected" // a game has come in
	TrainerStepped   = "trainer.stepped"   // the weights have changed, nothing of it is published
	TrainerStep      = "trainer.step"      // a step is published, its pairs are not
	TrainerPairs     = "trainer.pairs"     // and they are
	TrainerSaving    = "trainer.saving"    // a save's files are named, none is stored
	TrainerPut       = "trainer.put"       // they are stored, the save is still the one before
	TrainerSaved     = "trainer.saved"     // it is this one
	TrainerSealed    = "trainer.sealed"    // all games are there, and so is their digest
	TrainerTrained   = "trainer.trained"   // the result's digest is in the state, its weights are nowhere
	TrainerStored    = "trainer.stored"    // its weights are in the blob store, and nobody knows
	TrainerAnnounced = "trainer.announced" // they are announced, the state does not say so
	TrainerPublished = "trainer.published" // and it does
	TrainerJudged    = "trainer.judged"    // a stop rule's verdict is in the run's state, no event says so
	TrainerFinished  = "trainer.finished"  // the queue is closed, the run is not done

	GeneratorTaken   = "generator.taken"   // a task is in hand
	GeneratorPrompt  = "generator.prompt"  // and this prompt is in it: generator.prompt/<id>, which is no state but a poison
	GeneratorLoaded  = "generator.loaded"  // and its weights are loaded
	GeneratorPlayed  = "generator.played"  // its games are played, none is published
	GeneratorGame    = "generator.game"    // one is on its way, others are not
	GeneratorPlayout = "generator.playout" // all are, the task is not acknowledged

	EvaluatorTaken  = "evaluator.taken"  // a checkpoint is in hand
	EvaluatorScored = "evaluator.scored" // it is measured, no score is published
	EvaluatorScore  = "evaluator.score"  // one is, others are not

	RecorderPlanned  = "recorder.planned"  // a batch is planned, not inserted
	RecorderInserted = "recorder.inserted" // it is inserted, the plan does not say so
	RecorderDone     = "recorder.done"     // and it does
)

// Points lists them all, but for the poison.
func Points() []string {
	return []string{
		TrainerTaken, TrainerBase, TrainerStarted, TrainerQueued, TrainerCollected, TrainerStepped, TrainerStep, TrainerPairs, TrainerSaving, TrainerPut, TrainerSaved, TrainerSealed,
		TrainerTrained, TrainerStored, TrainerAnnounced, TrainerPublished, TrainerJudged, TrainerFinished,
		GeneratorTaken, GeneratorLoaded, GeneratorPlayed, GeneratorGame, GeneratorPlayout,
		EvaluatorTaken, EvaluatorScored, EvaluatorScore,
		RecorderPlanned, RecorderInserted, RecorderDone,
	}
}
