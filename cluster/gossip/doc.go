// Package gossip lets members find each other: everyone says where it is to be reached now, and hears who joined, moved
// or fell silent. It is memberlist over the cluster port, packets on UDP and streams under TLS.
//
// What it says is a hint and nothing else. The package must never feed anything that decides: not who votes, not who is
// alive for an election, not whether there is a cluster. An address from here is only tried, by a connection that proves
// whom it reached; a change here only wakes loops that look at everything again. Members are known by id, as the
// replicated state has them, and nobody becomes one by gossip.
package gossip
