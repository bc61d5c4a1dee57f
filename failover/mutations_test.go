package failover

// Each line is a change of this package that was made once, by hand (go test -overlay), and the tests that failed. Those
// marked * are mutations of the lease rules that the model violates too.
//
//	* appoint without seal                       EveryView
//	  seal without asking                        Stories, TheWholeTable
//	  vouches not looked at                      EveryView, Stories
//	* wait < L                                   EveryView, TheWholeTable, Stories
//	* one position too few                       EveryView, TheWholeTable, Stories
//	* standby does not cut: Detached unchecked   WhatDoesNotCount
//	* LSN-only comparison                        EveryView, TheWholeTable, Stories, WhatDoesNotCount
//	  a seal of an earlier epoch counts          WhatDoesNotCount
//	  a candidate outside D                      EveryView
//	  an unreleased primary's log counts         WhatDoesNotCount
//	  a promise of another node                  PromiseIsThePrimarys
//	  acts while paused                          TheWholeTable, Stories
//	  maximum lag ignored                        Stories
//	  a promise of a stale rev is committed      Stories
//	  a stalled stream keeps up                  Copies
//	  ages go on while nobody serves             Copies
//	  a dead predecessor is waited for           Copies
//	  a well primary is told to stop             TheWholeTable
//	  the leadership goes to who lags in Raft    TheWholeTable
//	  one more copy proposed without a promise   TheWholeTable
//	  a rule that no view reaches                TheWholeTable
//	  an answer in the order of a map            EqualViewsDecideAlike
//	  the name decides before the position       RenamingPermutes
//	  who gets no log is not passed over         EveryView, Stories, CandidatesWithoutTheLog
//	  a switchover to who gets no log            Stories
//	  a sick primary killed for such a one       Stories
//	  an appointed one is not asked about        Stories
//	  one that serves, or shows its epoch, goes  Stories
//	  one that nobody else can replace goes      Stories
//	  one appointed just now goes                Stories
//	  such a one takes over from such a one      Stories
//	  it is appointed again instead              Stories
//	  who gets on counts as stuck                Applied
//	  who was away is not given its time         Applied
//	  an unknown version counts as behind        Applied
//	  who adopts is replaced                     NobodyReplacesWhoAdopts
//	  a sick one, one outside D or one that is
//	  rebuilt could replace such a one           Stories
//	  one not heard just now is such a one       Stories
//	  the limit is shorter than four seconds     Stories
//	  status says nothing of a hole              Stories
//	  such a one makes a majority, or takes over Stories
//	  who does not answer is waited for for ever Stories, ALateAnswerVoidsTheToken
//	  who did not answer is not asked on         Stories
//	  a loss is offered while it is not known    Stories
//	  a loss is offered while the cluster adopts Stories
//	  a loss is accepted for who gets no log     Stories
//	  none is in place of who gets no log        Stories
//	  what was accepted is dropped too early     Stories
//	  a release counts with a log of nowhere     AReleaseWithoutAPlace
//	  a log of nowhere is not in the token       ATokenCoversALogOfNowhere, AReleaseWithoutAPlace
//	  an LSN of another timeline is subtracted   AnOldPrimarysTailIsNothing..., AsyncTakesNoOldPrimaryWithATail
//	  what is not known counts as nothing        NothingKnownIsNotNothingLacked
//	  a reason that the machine refuses          AReasonFitsWhereItGoes
