package failover

// Each line is a change of this package that was made once, by hand (go test -overlay), and the tests that failed. Those
// marked * are mutations of the lease rules that the model violates too.
//
//	* appoint without seal                       EveryView
//	  seal without asking                        Stories
//	  vouches not looked at                      EveryView, Stories
//	* wait < L                                   EveryView, Stories
//	* one position too few                       EveryView, Stories
//	* standby does not cut: Detached unchecked   WhatDoesNotCount
//	* LSN-only comparison                        EveryView, Stories, WhatDoesNotCount
//	  a seal of an earlier epoch counts          WhatDoesNotCount
//	  a candidate outside D                      EveryView
//	  an unreleased primary's log counts         WhatDoesNotCount
//	  a promise of another node                  PromiseIsThePrimarys
//	  acts while paused                          Stories
//	  maximum lag ignored                        Stories
//	  a promise of a stale rev is committed      Stories
//	  a stalled stream keeps up                  Copies
//	  ages go on while nobody serves             Copies
//	  a dead predecessor is waited for           Copies
