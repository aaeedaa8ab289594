# A worker that writes at random with the unmodified Ruby mmap client.
#
#   usage: random_writer.rb SEED INDEX [IDENTIFIER]
#
#   go N   does N random steps, then answers "paused"
#
# Gauges hold multiples of a quarter, whose sums are exact in any order.
require 'prometheus/client'

seed, index, identifier = ARGV
Prometheus::Client.configuration.pid_provider = -> { identifier } if identifier
RND = Random.new(seed.to_i * 1000 + index.to_i)

# No control character but the newline: the client's own text has JSON's escape
# for the others, which the exposition format does not know.
LABELS = [
  '', ' ', 'plain', '/a/b?c=d&e=f', 'with "quotes"', '"', 'back\\slash', '\\', '\\n', "new\nline", "\n",
  'ünïcödé', '日本語', 'emoji 😀', "e\u0301", 'a,b', '{x}', 'a=b', '#', '%s', 'x' * 300
].freeze
# What else the client takes for a label value.
KINDS = [nil, 1, -7, 2.5, true, false, :symbol, 'text'].freeze
MODES = %i[all liveall min max livesum].freeze

registry = Prometheus::Client.registry
COUNTER = registry.counter(:rb_odd_total, 'Counter.')
BARE = registry.counter(:rb_bare, 'A counter without the suffix.')
BASE = registry.counter(:rb_base_total, 'Base labels.', service: 'web')
SUMMARY = registry.summary(:rb_summary, 'Summary.')
HISTOGRAM = registry.histogram(:rb_default_seconds, 'Default bounds.')
FINE = registry.histogram(:rb_fine, 'Other bounds.', {}, [0.001, 0.5, 1, 10, 1_000_000])
GAUGES = MODES.map { |mode| registry.gauge(:"rb_gauge_#{mode}", 'Gauge.', {}, mode) }.freeze
FRESH = registry.counter(:rb_fresh_total, 'New series over time.')
FRESH_HISTOGRAM = registry.histogram(:rb_fresh_seconds, 'New series over time.', {}, [0.1, 1, 10])

def pick(list)
  list[RND.rand(list.size)]
end

def amount
  pick([0, 1, 1, 1, RND.rand, RND.rand * 1e-6, RND.rand(1 << 40)])
end

def quarters
  (RND.rand(8000) - 4000) / 4.0
end

@items = 0

def step
  path = pick(LABELS)
  case RND.rand(11)
  when 0, 1 then COUNTER.increment({ path: path, code: pick(%w[200 404 500]) }, amount)
  when 2 then BARE.increment({ kind: pick(KINDS) }, amount)
  when 3 then BASE.increment({ path: path }, amount)
  when 4 then SUMMARY.observe({ path: path }, amount)
  when 5 then HISTOGRAM.observe({ path: path }, RND.rand * 3)
  when 6 then FINE.observe({ path: path }, pick([0, 0.5, 1, 10, 1_000_000, 1e9, RND.rand * 12]))
  when 7 then pick(GAUGES).set({ path: path }, quarters)
  when 8 then pick(GAUGES).increment({ path: path }, quarters)
  else
    if RND.rand < 0.05 && @items < 400
      @items += 1
      FRESH.increment(item: format('item-%05d', @items))
      FRESH_HISTOGRAM.observe({ item: format('item-%05d', @items), pad: 'y' * 100 }, RND.rand * 12) if (@items % 8).zero?
    elsif @items.positive?
      FRESH.increment({ item: format('item-%05d', RND.rand(1..@items)) }, amount)
    end
  end
end

$stdout.sync = true
$stdin.each_line do |line|
  line.split[1].to_i.times { step }
  puts 'paused'
end
