/*
 * Copies before the swap, as a model for spin: three sites, one ref, two pushes, and a group that promises two copies. It begins where
 * piehole.pml ends: there the sites agree on values, here on who has the commits that the values name.
 * tests/model/test_model.py runs it; docs/explanation/reliability.md ("A model of the protocol") says what it shows and what it cannot see.
 *
 * A commit is a small number; `contains` has the commits in its history. A site `has` what it has written down: what is only in the memory
 * of its kernel (`cached`) does not count, since a power failure takes it.
 *
 * -DNAME takes a rule out, to see that an assertion notices (the names stand in test_model.py); without any, nothing may fail.
 */

#ifndef LOSSES
#define LOSSES 1            /* disks that may be lost: one fewer than the copies promised */
#endif
#ifndef PUSHES
#define PUSHES 2
#endif
#ifndef EXPIRIES
#define EXPIRIES 1          /* leases that may end under a push */
#endif
#ifndef SILENCES
#define SILENCES 1          /* answers of etcd that may stay away */
#endif

#define SITES 3
#define COPIES 2
#define ROOT 0
#define COMMIT(p) (1 + (p)) /* the new commit of push p */
#define BIT(x) (1 << (x))
#define NOTHING 3           /* a ref that is not there */

mtype = { none, ok, refused, unknown };

/* ---- etcd */
byte key = ROOT;
bit request[2];             /* the request for copies of a push; it and the answers to it end with one lease */
byte answers[2];            /* the sites that say they hold it, as a set */
byte sent[2];               /* swaps on their way: they may take effect at any time, or never */

/* ---- the sites */
byte cached[SITES], has[SITES];     /* commits, as sets */
byte here[SITES];                   /* the ref */
byte held[SITES];                   /* pushes whose commits a held ref names, as a set */
byte kept[SITES];                   /* commits that a kept tip names */

/* ---- the pushes */
byte site[2], basis[2];
byte contains[4];
byte counted[2];            /* the answers that the push saw, which its swap compares */
byte excused[2];            /* sites whose disk was lost after they had held it */
bit alive[2];               /* its receive-pack lives, so git leaves its new objects alone */
bit moved[2];               /* its swap is in the history */
mtype outcome[2] = none;

byte losses = LOSSES, expiries = EXPIRIES, silences = SILENCES;

#define closed(set, x) ((set & contains[x]) == contains[x])
#define at(s, x) closed(has[s], x)
#define reaches(s, x) (here[s] != NOTHING && (contains[here[s]] & BIT(x)))
#define holds(s, p) (held[s] & BIT(p))
/* What no garbage collection takes away: the history of the ref, of held refs and of kept tips; and at the site that received it what a push
   has brought, until it is sure to fail (git leaves young objects alone for two weeks; no swap is on its way so long, and none that took
   effect waits so long for a reconcile). */
#define young(s, p) (site[p] == s && (alive[p] || sent[p] || moved[p]))
#define wanted(s) ( (here[s] != NOTHING -> contains[here[s]] : 0) \
    | (holds(s, 0) -> contains[COMMIT(0)] : 0) | (holds(s, 1) -> contains[COMMIT(1)] : 0) \
    | (kept[s] & BIT(COMMIT(0)) -> contains[COMMIT(0)] : 0) | (kept[s] & BIT(COMMIT(1)) -> contains[COMMIT(1)] : 0) | (kept[s] & BIT(ROOT)) \
    | (young(s, 0) -> contains[COMMIT(0)] : 0) | (young(s, 1) -> contains[COMMIT(1)] : 0) )

#define somewhere(x) (at(0, x) || at(1, x) || at(2, x))

/* Nothing that was acknowledged or that the group names is nowhere, whatever was lost. */
inline nothing_is_lost() {
    assert(somewhere(key));
    assert(outcome[0] != ok || somewhere(COMMIT(0)));
    assert(outcome[1] != ok || somewhere(COMMIT(1)))
}

/* The site is in the set, or its disk was lost since it was: the loss is one of those that the promise allows for. */
#define counts(s, p) ((at(s, COMMIT(p)) -> 1 : 0) | ((excused[p] & BIT(s)) -> 1 : 0))

/* What can have no effect any more is no part of the state. */
inline forget(p) {
    if
    :: outcome[p] != none && !sent[p] -> basis[p] = 0; counted[p] = 0; excused[p] = 0
    :: else
    fi
}

inline end_lease(p) { request[p] = 0; answers[p] = 0 }

inline apply(p) {
    sent[p] = 0;
    if
#ifdef NO_COMPARE
    :: key == basis[p] ->
#else
    :: key == basis[p] && (answers[p] & counted[p]) == counted[p] ->
#endif
        assert(outcome[p] != refused);
        /* the promise: so many sites hold it at this moment, or did and lost their disk */
        assert(counts(0, p) + counts(1, p) + counts(2, p) >= COPIES);
        key = COMMIT(p);
        moved[p] = 1;
        end_lease(p);
        nothing_is_lost()
    :: else
    fi;
    forget(p)
}

active proctype etcd() {
end:
    do
    :: atomic { sent[0] -> apply(0) }
    :: atomic { sent[1] -> apply(1) }
    :: atomic { request[0] && expiries > 0 -> expiries--; end_lease(0) }
    :: atomic { request[1] && expiries > 0 -> expiries--; end_lease(1) }
    od
}

/* ---- what goes wrong */

inline note_loss(s, p) {
    if
    :: contains[COMMIT(p)] && at(s, COMMIT(p)) && !moved[p] && (outcome[p] == none || sent[p]) -> excused[p] = excused[p] | BIT(s)
    :: else
    fi
}

inline lose(s) {
    note_loss(s, 0); note_loss(s, 1);
    has[s] = 0; cached[s] = 0; here[s] = NOTHING; held[s] = 0; kept[s] = 0;
    if :: site[0] == s -> alive[0] = 0 :: else fi;
    if :: site[1] == s -> alive[1] = 0 :: else fi;
    nothing_is_lost()
}

active proctype misfortune() {
end:
    do
    :: atomic { losses > 0 -> losses--;
            if :: true -> lose(0) :: true -> lose(1) :: true -> lose(2) fi }
    od
}

/* ---- one push */

proctype pusher(byte p) {
    /* git has the objects out of the quarantine and on the disk; what is pushed is built on what this site shows, or replaces it */
    atomic {
        if
        :: site[p] = 0
        :: p == 1 -> site[p] = 1
        fi;
        if
        :: here[site[p]] == NOTHING -> outcome[p] = refused; goto done
        :: else
        fi;
        alive[p] = 1;
        basis[p] = here[site[p]];
        contains[COMMIT(p)] = BIT(COMMIT(p)) | contains[here[site[p]]];
        if
        :: true
        :: here[site[p]] != ROOT -> contains[COMMIT(p)] = BIT(COMMIT(p)) | BIT(ROOT)    /* by force */
        fi;
        has[site[p]] = has[site[p]] | contains[COMMIT(p)];
        if
        :: key == basis[p]
        :: else -> outcome[p] = refused; alive[p] = 0; goto done
        fi;
        request[p] = 1
    };
#ifndef NO_COPIES
    atomic {
        if
        :: !alive[p] -> goto dead
        :: (answers[p] & ~BIT(site[p])) != 0 -> counted[p] = answers[p]
        :: end_lease(p); outcome[p] = refused; alive[p] = 0; goto done                   /* not in time: refused, and nothing is left */
        fi
    };
#endif
    atomic {
        if
        :: !alive[p] -> goto dead
        :: else -> sent[p] = 1
        fi
    };
    atomic {
        if
        :: !alive[p] -> goto dead
        :: !sent[p] && moved[p] && alive[p] -> goto accepted
        :: !sent[p] && !moved[p] && alive[p] -> end_lease(p); outcome[p] = refused; alive[p] = 0; goto done
        :: silences > 0 -> silences--; outcome[p] = unknown; alive[p] = 0; goto done
        fi
    };
accepted:
    atomic {
        if
        :: !alive[p] -> goto dead
        :: else ->
            /* the tip that it replaces is kept, then git moves the ref; a reconcile may have been quicker */
            if
            :: here[site[p]] == basis[p] -> kept[site[p]] = kept[site[p]] | BIT(here[site[p]]); here[site[p]] = COMMIT(p)
            :: else
            fi;
            outcome[p] = ok; alive[p] = 0;
            nothing_is_lost();
            goto done
        fi
    };
dead:
    outcome[p] = unknown;
done:
    atomic { forget(p) }
}

/* ---- the controller of one site: every step is one that it may take whenever it finds it possible */

#define from(s, x) ((s != 0 && closed(has[0], x)) || (s != 1 && closed(has[1], x)) || (s != 2 && closed(has[2], x)))
#define all_here(s) (has[s] | cached[s])

inline copy(s, p) {
    if
    /* fetch what a push asks for, write it down and hold it: nobody is told of anything before all is done */
    :: request[p] && site[p] != s && !holds(s, p) && (closed(all_here(s), COMMIT(p)) || from(s, COMMIT(p))) ->
#ifdef NO_FSYNC
        cached[s] = cached[s] | (contains[COMMIT(p)] & ~has[s]);
#else
        has[s] = has[s] | contains[COMMIT(p)];
#endif
#ifdef NO_HOLD
        answers[p] = answers[p] | BIT(s)
#else
        held[s] = held[s] | BIT(p)
    :: request[p] && holds(s, p) && !(answers[p] & BIT(s)) -> answers[p] = answers[p] | BIT(s)
#endif
    /* let go: the refs have it, or the push is over and has moved nothing */
    :: holds(s, p) && reaches(s, COMMIT(p)) && at(s, COMMIT(p)) -> held[s] = held[s] & ~BIT(p)
#ifdef DROPPED_WITH_KEYS
    :: holds(s, p) && !request[p] -> held[s] = held[s] & ~BIT(p)
#elif defined(DROPPED_WHEN_REPLACED)
    :: holds(s, p) && !request[p] && !(contains[key] & BIT(COMMIT(p))) -> held[s] = held[s] & ~BIT(p)
#else
    :: holds(s, p) && !request[p] && !moved[p] -> held[s] = held[s] & ~BIT(p)
#endif
    fi
}

proctype controller(byte s) {
end:
    do
    :: atomic { copy(s, 0) }
    :: atomic { copy(s, 1) }
    /* follow the group */
    :: atomic { here[s] != key && !at(s, key) && from(s, key) -> has[s] = has[s] | contains[key] }
    :: atomic { here[s] != key && at(s, key) && !(alive[0] && site[0] == s && moved[0]) && !(alive[1] && site[1] == s && moved[1]) ->
            if
            :: here[s] != NOTHING && !(contains[key] & BIT(here[s])) -> kept[s] = kept[s] | BIT(here[s])
            :: else
            fi;
            here[s] = key }
    /* git gc */
    :: atomic { (has[s] & ~wanted(s)) || (cached[s] & ~wanted(s)) ->
            has[s] = has[s] & wanted(s); cached[s] = cached[s] & wanted(s);
            nothing_is_lost() }
    od
}

init {
    atomic {
        contains[ROOT] = BIT(ROOT);
        has[0] = BIT(ROOT); has[1] = BIT(ROOT); has[2] = BIT(ROOT);
        run pusher(0); run controller(0); run controller(1); run controller(2);
#if PUSHES == 2
        run pusher(1)
#else
        outcome[1] = refused
#endif
    }
    /* nothing can happen any more */
    timeout ->
    nothing_is_lost();
    assert(outcome[0] != none && outcome[1] != none);
    /* every site has what the group names, and holds nothing longer than it must */
    assert(here[0] == key && here[1] == key && here[2] == key);
    assert(at(0, key) && at(1, key) && at(2, key));
end:
    skip
}
