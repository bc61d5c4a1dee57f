package fsm

// Each line is a change of this package that was made once, by hand (go test -overlay), and the tests that failed. Those
// marked * are mutations of the lease rules that the model violates too. Repeat it when a safety rule here changes: a
// mutation that no test notices is a rule that nobody holds.
//
//	* appoint without seal                       AppointAnotherNode, ExhaustiveNoSecondWriter, Stories
//	  a minority of seals                        AppointAnotherNode, ExhaustiveNoSecondWriter, Stories
//	  a voter counted twice                      AppointAnotherNode, ExhaustiveNoSecondWriter, Stories
//	* waited < left                              AppointAnotherNode, ExhaustiveNoSecondWriter, Stories
//	  a seal of an earlier epoch counts          AppointAnotherNode, ExhaustiveNoSecondWriter, Stories
//	  a release of another epoch counts          AppointAnotherNode, ExhaustiveNoSecondWriter, ExhaustiveNoLostCommit
//	  a release by another node counts           AppointAnotherNode, ExhaustiveNoSecondWriter, ExhaustiveNoLostCommit
//	* stale E: no epoch CAS                      AppointAnotherNode, Stories
//	* no rev CAS (V1, V9)                        RevAndVersion, Stories
//	* rev CAS only if a rev is given             RevAndVersion
//	* Appoint, SetSync, SetElectorate without it RevAndVersion
//	* SetSync bumps no Rev                       RevAndVersion, SetSync, Stories
//	* SetElectorate bumps no Rev                 RevAndVersion, Stories
//	* Pause, Resume bump no Rev (V4, V5)         RevAndVersion, PauseTwice, Stories
//	* swap of voters (V3)                        SetElectorate, Stories
//	  a paused cluster replaces its primary      AppointPaused, AppointFirst, RandomStreams, Stories
//	* one position too few                       ExhaustiveNoLostCommit, EveryElectionMeetsEveryCommit, AppointAnotherNode
//	* standby does not cut: Detached unchecked   AppointAnotherNode, ExhaustiveNoLostCommit
//	  an unreleased primary's log counts         AppointAnotherNode, ExhaustiveNoLostCommit, Stories
//	  a log counted twice                        AppointAnotherNode
//	  the end of a released primary's log does
//	  not bind the candidate                     AppointAnotherNode, ExhaustiveNoLostCommit, Stories
//	* LSN-only comparison                        HistoryBeforeLength, ExhaustiveNoLostCommit
//	  a candidate behind another                 AppointAnotherNode, HistoryBeforeLength, ExhaustiveNoLostCommit, Stories
//	  a candidate outside D                      AppointOutsideD, Stories
//	  a candidate without a log                  AppointAnotherNode, ExhaustiveNoLostCommit
//	  an unknown timeline is compared            AppointAnotherNode
//	  a predicted timeline used twice            AppointAnotherNode
//	  a real timeline used twice                 Promoted
//	* Appoint drops q from D                     AppointAnotherNode, HistoryBeforeLength, ExhaustiveNoLostCommit, Stories
//	  Appoint sets R anew                        AppointAnotherNode, HistoryBeforeLength, ExhaustiveNoLostCommit, Stories
//	* shrink FSM first (no promise)              SetSync, SetSyncBeforeThePrimary, Stories
//	* promise of a stale rev (not frozen)        SetSync, Stories
//	* promise not frozen: Enforce ignores it    Enforce, NoOrderOfStepsLosesACommit
//	  a promise binds one rev too short          Enforce, PromiseBinds, NoOrderOfStepsLosesACommit
//	* degrade before FSM                         EveryStepIsAcceptedAndEnds, NoOrderOfStepsLosesACommit
//	* grow with Postgres first                   EveryStepIsAcceptedAndEnds
//	  leaving proposed without a promise         Enforce, EveryStepIsAcceptedAndEnds
//	  leaving async without a promise            EveryStepIsAcceptedAndEnds
//	  the primary may leave D                    NextSync
//	  a member leaves, the rest doesn't suffice  EveryStepIsAcceptedAndEnds, NextSync
//	  degrading though strict                    NextSync
//	  raising with nobody to make the copy       EveryStepIsAcceptedAndEnds, NextSync
//	  promise of another node or rule            SetSync
//	  rule 17 without the new members            StricterMeansElectionsStayElections, Stricter
//	  rule 16 without the strangers              SafeEnforcementMeansEnoughCopies
//	  rule 16 counts x though outside D          SafeEnforcementMeansEnoughCopies
//	  D without the primary                      SetSync, RandomStreams
//	* an accepted loss leaves q out of D         Stories, and EveryViewWithAnAcceptedLoss of failover
//	  another loss than the one accepted         Stories, and EveryViewWithAnAcceptedLoss of failover
//	  logs of nowhere refused though accepted    Stories, and ATokenCoversALogOfNowhere of failover
//	  a candidate of nowhere by an accepted loss Stories
//	  a token without cluster, epoch or timeline LossToken
//	  an accepted loss is no mark in the lineage Stories
//	  a wish survives an Appoint                 AppointEndsWish, Wishes, Stories
//	  a duplicate request is applied             RingsAreBounded, RefusedWithoutLookingAtTheCommand, Stories
//	* a re-appointment needs evidence            AppointSameNode, Stories and most others
//	  a re-appointment forgets the real timeline AppointSameNode, Promoted, Stories
//	  Apply shares memory with its argument      ApplySharesNothing
