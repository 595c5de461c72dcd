-- What a tenant has outstanding, by its counters. ARGV: 5 the tenant. Answers the events that are
-- not matched yet and the deliveries that have not ended, together.
if not marks() then return EPOCH end
local events, pending = left_of(read_books(ARGV[5]))
return cmsgpack.pack(math.max(0, events + pending))
