/*
 * The protocol of piehole for one ref, two sites and two pushers: docs/development/architecture.md as a model for spin.
 * tests/model/test_model.py runs it; docs/explanation/reliability.md ("A model of the protocol") says what it shows and what it cannot see.
 *
 * An oid is a small number: ZERO, a root commit, its child, and one new commit for each pusher; `contains` has, for each, the
 * set of commits in its history. Revisions are not counted. Everything that compares one asks "has this changed since I read
 * it?", so each reader has flags that every later change sets, which is the same and keeps the state space finite.
 *
 * -DNAME takes a rule out, to see that an assertion notices (the names stand in test_model.py); without any, nothing may fail.
 */

#ifndef KILLS
#define KILLS 1             /* how many processes of pushes may be killed, or fail after `prepared` */
#endif
#ifndef SILENCES
#define SILENCES 2          /* how many answers of etcd may stay away */
#endif
#ifndef EDITS
#define EDITS 1             /* how often an administrator may rewrite the key */
#endif
#ifndef RACES
#define RACES 1             /* how often one push may lose against another change, and be proposed again */
#endif

#ifndef START
#define START 15            /* the beginnings that are tried, as a set of bits: the alternatives in `init` */
#endif

#define ZERO 0
#define ROOT 1
#define CHILD 2
#define COMMIT(p) (3 + (p)) /* the new commit of pusher p */
#define BIT(x) (1 << (x))

#define FREE 0              /* who holds git's lock of the ref: nobody, */
#define HELD_BY(p) (1 + (p)) /* a pusher's receive-pack, */
#define DEAD 3              /* a receive-pack that was killed, */

#define NOBODY 0            /* who made a change of the key */
#define PUSH(p) (1 + (p))
#define OTHER 3

mtype = { none, ok, refused, unknown };

/* ---- etcd */
byte key = ROOT;            /* the consensus value; ZERO is a tombstone */
bit absent;                 /* the key is not there (then `key` is ZERO) */
bit by_hand;                /* it was an administrator who deleted it */
bit sent_[2], sent_twice[2];/* proposals on their way: they may take effect at any time, or never */

/* ---- the sites */
byte here[2];              /* the ref */
byte has[2];                /* commits whose closure is here */
byte lock[2];
bit fresh[2];               /* the key has not changed since the controller read it; */
byte since[2];              /* the pushes whose swap came after that, */
bit overtaken[2];           /* and whether one of them has moved the ref here */
bit passed[2];              /* the newest reconcile that converged was at the newest change of the key, or later */
bit published[2];           /* and the site's progress record says so */

/* ---- the pushes */
bit announced[2];           /* the in-flight record of a living receive-pack names the ref */
bit basis[2];               /* the push has one that may still be sent, or that is on its way */
byte site[2], old[2], new[2];
byte contains[5];
mtype outcome[2] = none;    /* what the pusher was told */

byte basis_value[2];        /* the basis: the value that was judged, */
bit basis_absent[2];        /* whether the key's mod_revision was 0, */
bit fence_moved[2];         /* whether @fence has moved since, */
byte first_by[2];           /* and who was first to change the key since, if anybody */
bit writes[2];              /* false by rule 1 */
bit answer_came[2], answer_good[2];
byte commits[2];            /* how often the swap of this push is in the history */

byte kills = KILLS, silences = SILENCES, edits = EDITS;

#define descends(x, y) (x != ZERO && y != ZERO && (contains[x] & BIT(y)))
#define lacks(s, x) (x != ZERO && (has[s] & contains[x]) != contains[x])

inline note_for(p, who) {
    if
    :: basis[p] && first_by[p] == NOBODY -> first_by[p] = who
    :: else
    fi
}

inline note_change(who) {
    fresh[0] = 0; fresh[1] = 0;
    passed[0] = 0; passed[1] = 0; published[0] = 0; published[1] = 0;
    note_for(0, who); note_for(1, who)
}

inline move_fence() { fence_moved[0] = basis[0]; fence_moved[1] = basis[1] }

/* A local ref moves with its objects, and where `to` does not contain the old tip, whoever moves it has kept that (kept tips stay,
   so that this holds at each move means that nothing which a site ever had is unreachable there). */
inline move_local(s, to, kept) {
    assert(!lacks(s, to));
    assert(here[s] == ZERO || descends(to, here[s]) || kept == here[s]);
    here[s] = to
}

/* ---- the swap, where etcd applies it */

#ifdef NO_COMPARE
#define compares(p) true
#else
/* mod_revision 0 is equal again once the key is gone again; every other one never is. */
#define compares(p) (!fence_moved[p] && (first_by[p] == NOBODY || (absent && old[p] == ZERO)))
#endif

/* What can have no effect any more is no part of the state. */
inline forget(p) {
    if
    :: outcome[p] != none && !sent_[p] ->
        basis[p] = 0; basis_value[p] = 0; basis_absent[p] = 0; fence_moved[p] = 0; first_by[p] = NOBODY;
        answer_came[p] = 0; answer_good[p] = 0; since[0] = since[0] & ~BIT(p); since[1] = since[1] & ~BIT(p);
        site[p] = 0; old[p] = 0; new[p] = 0; writes[p] = 0
    :: else
    fi
}

inline apply(p) {
    sent_[p] = sent_twice[p]; sent_twice[p] = 0;
    answer_good[p] = 0;
    if
    :: compares(p) ->
        answer_good[p] = 1;
        if
        :: writes[p] ->
            assert(outcome[p] != refused);                                              /* a refused push never */
            assert(commits[p] == 0);                                                    /* every push at most once */
            assert(key == basis_value[p]);                                              /* one chain: it follows what it was judged on, */
            assert(key == old[p] || descends(new[p], key));                             /* which its pusher knew */
            commits[p]++;
            key = new[p]; absent = 0; by_hand = 0;
            since[0] = since[0] | BIT(p); since[1] = since[1] | BIT(p);
            note_change(PUSH(p))
        :: else
        fi
    :: else
    fi;
    answer_came[p] = 1;
    forget(p)
}

active proctype etcd() {
end:
    do
    :: atomic { sent_[0] -> apply(0) }
    :: atomic { sent_[1] -> apply(1) }
    /* a proposal that never arrives */
    :: atomic { sent_[0] && silences > 0 -> silences--; sent_[0] = sent_twice[0]; sent_twice[0] = 0; forget(0) }
    :: atomic { sent_[1] && silences > 0 -> silences--; sent_[1] = sent_twice[1]; sent_twice[1] = 0; forget(1) }
    /* reaping, by whichever site: one transaction, which compares the tombstone */
    :: atomic { !absent && key == ZERO && published[0] && published[1] ->
            assert(here[0] == ZERO && here[1] == ZERO);
            absent = 1;
            note_change(OTHER);
#ifndef NO_FENCE_ON_REAP
            move_fence()
#endif
        }
    od
}

#ifdef DELETE_UNDER_A_CREATION
#define hand_may_delete true
#else
#define hand_may_delete (!(basis[0] && old[0] == ZERO) && !(basis[1] && old[1] == ZERO))
#endif

active proctype administrator() {
end:
    do
    :: atomic { edits > 0 && (absent || key != CHILD) && (has[0] | has[1]) & BIT(CHILD) -> edits--; key = CHILD; absent = 0; by_hand = 0; note_change(OTHER) }
    :: atomic { edits > 0 && (absent || key != ROOT) -> edits--; key = ROOT; absent = 0; by_hand = 0; note_change(OTHER) }
    :: atomic { edits > 0 && key != ZERO -> edits--; key = ZERO; note_change(OTHER) }
    /* Nobody writes @fence for this, so deleting a key by hand under a creation that is not settled is not promised to be safe. */
    :: atomic { edits > 0 && !absent && hand_may_delete -> edits--; key = ZERO; absent = 1; by_hand = 1; note_change(OTHER) }
    od
}

/* ---- one push */

inline read_basis(p) {
    basis_value[p] = key; basis_absent[p] = absent;
    basis[p] = 1; fence_moved[p] = 0; first_by[p] = NOBODY; verdict = 0
}

/* The five rules; `verdict` 0: refuse, 1: accept without writing, 2: accept. */
inline judge(p, verdict) {
    if
    :: absent && old[p] != ZERO -> verdict = 0
    :: else ->
        if
        :: key == new[p] -> verdict = 1
        :: key != new[p] && key == old[p] -> verdict = 2
        :: key != new[p] && key != old[p] && key != ZERO && new[p] != ZERO && !lacks(site[p], key) && descends(new[p], key) -> verdict = 2
        :: else -> verdict = 0
        fi
    fi
}

inline say(p, what) {
    outcome[p] = what;
    if
    :: what == ok -> assert(commits[p] == writes[p])           /* an acknowledged push exactly once */
    :: what == refused -> assert(commits[p] == 0)              /* a refused one never */
    :: else
    fi
}

/* git stays away from the ref from now on */
inline leave(p) {
    if
    :: lock[site[p]] == HELD_BY(p) -> lock[site[p]] = FREE
    :: else
    fi;
    announced[p] = 0; verdict = 0; races = 0; lost = 0; earlier = 0;
    forget(p)
}

/* What etcd says after the fence (or in the answer of a swap that failed). `lost`: not in the history, and never will be */
inline identify(p, lost) {
    if
#ifdef ABSENT_IS_UNCHANGED
    :: basis_absent[p] && absent -> lost = 1
#else
    :: false
#endif
    :: else -> lost = (first_by[p] != PUSH(p))
    fi
}

proctype pusher(byte p) {
    byte verdict, races = RACES;
    bit lost, earlier;
    byte kept;

    /* receive-pack tells its refs; the pusher decides what to push, knowing this site and perhaps the other */
    atomic {
        if
        :: site[p] = 0
        :: p == 1 -> site[p] = 1
#ifdef ANY_SITE
        :: p == 0 -> site[p] = 1
#endif
        fi;
        old[p] = here[site[p]];
        if
        :: old[p] != ZERO -> new[p] = ZERO                                              /* delete */
        :: old[p] != ROOT -> new[p] = ROOT                                              /* force back, or create what was there before */
        :: new[p] = COMMIT(p); contains[COMMIT(p)] = BIT(COMMIT(p)) | contains[here[0]];
        :: here[1] != here[0] -> new[p] = COMMIT(p); contains[COMMIT(p)] = BIT(COMMIT(p)) | contains[here[1]]
        :: here[0] > CHILD || here[1] > CHILD -> new[p] = COMMIT(p); contains[COMMIT(p)] = BIT(COMMIT(p)) | BIT(ROOT);
        fi;
        if
        :: new[p] != ZERO -> has[site[p]] = has[site[p]] | contains[new[p]]
        :: else
        fi;

        /* update */
        judge(p, verdict);
        if
        :: verdict == 0 -> say(p, refused); leave(p); goto done
        :: else -> writes[p] = (verdict == 2); read_basis(p); announced[p] = 1
        fi
    };
#ifdef SWAP_IN_UPDATE
    goto send;
#endif

lock_ref:
    atomic {
        /* git locks the ref and looks that it is what it was */
        if
        :: lock[site[p]] != FREE || here[site[p]] != old[p] -> say(p, refused); leave(p); goto done
        :: else -> lock[site[p]] = HELD_BY(p)
        fi;
#ifdef SWAP_IN_UPDATE
        goto move
    };
send:
    atomic {
#else
send:
#endif
        /* keep the old tip, see that the receive-pack lives, send */
        if
        :: kills > 0 -> kills--; goto killed
        :: kills > 0 -> kills--; lock[site[p]] = DEAD; goto killed
        :: true ->
#ifndef NO_KEEP
            kept = old[p];
#endif
            answer_came[p] = 0; answer_good[p] = 0;
            if
            :: sent_[p] -> sent_twice[p] = 1
            :: else -> sent_[p] = 1
            fi
        fi
    };

    /* the answer, or its absence */
    atomic {
        if
        :: answer_came[p] && answer_good[p] -> goto accepted
        :: answer_came[p] && !answer_good[p] && !earlier -> goto settle                 /* the answer says what there is */
        :: answer_came[p] && !answer_good[p] && earlier -> goto fence
        :: silences > 0 -> silences--; goto fence
        :: !sent_[p] && !answer_came[p] -> goto fence
        :: silences > 0 && !earlier -> silences--; earlier = 1; goto send            /* the controller fell silent: the hook sends the same */
        :: !sent_[p] && !answer_came[p] && !earlier -> earlier = 1; goto send
        :: kills > 0 -> kills--; goto killed
        :: kills > 0 -> kills--; lock[site[p]] = DEAD; goto killed
        fi
    }

fence:
#ifdef UNKNOWN_IS_REFUSED
    atomic { say(p, refused); leave(p); goto done }
#endif
#ifndef NO_FENCE
    atomic {
        if
        :: move_fence()
        :: silences > 0 -> silences--; say(p, unknown); leave(p); goto done
        :: silences > 0 -> silences--; move_fence(); say(p, unknown); leave(p); goto done
        fi
    }
#endif

settle:
    atomic {
        identify(p, lost);
        if
        :: !lost -> goto accepted
        :: else ->
            judge(p, verdict);
            if
            :: verdict == 0 -> say(p, refused); leave(p); goto done
            :: verdict != 0 && races == 0 -> say(p, refused); leave(p); goto done       /* its time is up */
            :: verdict != 0 && races > 0 ->
                races--;
#if !defined(NO_FENCE) && !defined(NO_COMPARE)
                assert(!(sent_[p] && compares(p)));                                     /* nothing of it can come true any more */
                sent_[p] = 0; sent_twice[p] = 0;
#endif
                writes[p] = (verdict == 2); read_basis(p); earlier = 0; goto send
            fi
        fi
    }

accepted:
#ifdef SWAP_IN_UPDATE
    goto lock_ref;
move:
#endif
    atomic {
        if
        :: kills > 0 -> kills--; goto killed                                            /* git fails after `prepared`, or dies cleanly */
        :: kills > 0 -> kills--; lock[site[p]] = DEAD; goto killed
        :: true ->
            move_local(site[p], new[p], kept);
            if
            :: since[site[p]] & BIT(p) -> overtaken[site[p]] = 1
            :: else
            fi;
            kept = 0;
            say(p, ok); leave(p); goto done
        fi
    }

killed:
    /* the pusher sees the connection end */
    atomic { say(p, unknown); leave(p); kept = 0 }
done:
    skip
}

/* ---- the controller of one site */

#ifdef ABSENT_IS_DELETE
#define stray(s) (absent && here[s] != ZERO)
#else
#define stray(s) false
#endif
#define something_to_do(s) (lock[s] == DEAD || stray(s) || (!absent && (here[s] != key || !passed[s])))
#define in_flight(s) ((announced[0] && site[0] == s) || (announced[1] && site[1] == s))

inline read_desired(s) { wanted = key; since[s] = 0; overtaken[s] = 0 }

proctype controller(byte s) {
    byte seen, wanted, kept;
    bit flying;
end:
    do
    :: atomic {
            /* what a watch or the regular look would find: leftovers, a ref that is not in step, news to publish */
            something_to_do(s) ->
            if
            :: lock[s] == DEAD -> lock[s] = FREE
            :: else
            fi;
#ifdef DESIRED_FIRST
            read_desired(s)
        };
        atomic {
#endif
            fresh[s] = 1;                                                               /* the revision that will be claimed */
            seen = here[s];
            flying = in_flight(s)
        };
        atomic {
            /* the desired state, a linearizable read after the local refs */
#ifndef DESIRED_FIRST
            read_desired(s);
#endif
            passed[s] = 0;
#ifdef CLAIM_PAST_A_PUSH
            fresh[s] = 1; flying = (flying && seen != wanted);
#endif
#ifdef PROGRESS_EARLY
            passed[s] = 1;
#endif
            if
#ifndef ABSENT_IS_DELETE
            :: absent -> goto over
            :: !absent && flying -> goto over
            :: !absent && !flying && seen == wanted -> passed[s] = fresh[s]; goto over
#else
            :: flying -> goto over
            :: !flying && seen == wanted -> passed[s] = fresh[s]; goto over
#endif
            :: else
            fi
        };
        atomic {
            /* fetch from the other site what is not here yet */
#ifndef NO_CONNECTIVITY
            if
            :: lacks(s, wanted) && lacks(1 - s, wanted) -> goto over
            :: lacks(s, wanted) && !lacks(1 - s, wanted) -> has[s] = has[s] | contains[wanted]
            :: else
            fi;
#endif
            /* a push may have announced the ref meanwhile */
            if
            :: in_flight(s) -> goto over
            :: else
            fi;
#ifndef NO_KEEP
            kept = seen
#endif
        };
        atomic {
            if
            :: lock[s] == FREE && here[s] == seen ->
#ifndef MOVE_AS_PLANNED
                /* only under the lock make sure that the group still has this: until the move nobody else moves the ref here */
                if
                :: (absent && !stray(s)) || key != wanted -> goto over
                :: else -> read_desired(s)
                fi;
#endif
                assert(!overtaken[s]);                                                  /* no ref moves back on its own */
                assert(!absent);                                                        /* an absent key is no opinion */
                move_local(s, wanted, kept);
                passed[s] = fresh[s]                                                    /* converged, and nothing newer came */
            :: else
            fi
        };
over:
        atomic { seen = 0; wanted = 0; kept = 0; flying = 0; fresh[s] = 0; since[s] = 0; overtaken[s] = 0 }
    :: atomic { passed[s] && !published[s] && !absent -> published[s] = 1 }
    od
}

/* ---- the beginning and the end */

init {
    atomic {
        contains[ROOT] = BIT(ROOT);
        contains[CHILD] = BIT(CHILD) | BIT(ROOT);
        has[0] = BIT(ROOT); has[1] = BIT(ROOT);
        if
        /* both sites in step */
        :: (START & 1) -> key = ROOT; here[0] = ROOT; here[1] = ROOT
        /* site 1 was away while the ref was moved */
        :: (START & 2) -> key = CHILD; here[0] = CHILD; here[1] = ROOT; has[0] = contains[CHILD]
        /* ... while it was deleted */
        :: (START & 4) -> key = ZERO; here[0] = ZERO; here[1] = ROOT
        /* no such ref yet */
        :: (START & 8) -> key = ZERO; absent = 1; here[0] = ZERO; here[1] = ZERO
        fi;
        if
        :: edits = 0
        :: edits = EDITS
        fi;
        run pusher(0); run pusher(1); run controller(0); run controller(1)
    }
    /* nothing can happen any more */
    timeout ->
    assert(outcome[0] != none && outcome[1] != none);
    assert(lock[0] == FREE && lock[1] == FREE);
    /* the sites agree: on the group's value; where a reaping took the key, on its absence */
    assert(absent || (here[0] == key && here[1] == key));
    assert(!absent || by_hand || (here[0] == ZERO && here[1] == ZERO));
    assert(commits[0] <= 1 && commits[1] <= 1);
end:
    skip
}
