"""What scripts/peers is made of: the living originals, measured as the suite measures its own.

    inputs       the suite's random numbers, bit for bit
    operations   what is computed: shapes, work, the float64 reference
    originals    who computes it: how each original is called
    measure      when: cold L2, events, order statistics
    document     the results file

Nothing here imports torch by itself, so that all but the calls is tested without it.
"""
