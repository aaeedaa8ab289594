# A Rack application as anybody writes it with the Ruby mmap client; it does not know of
# promagg.
require 'prometheus/client'

visits = Prometheus::Client.registry.counter(:visits_total, 'Visits.')

run lambda { |_env|
  visits.increment({})
  [200, { 'content-type' => 'text/plain' }, [Process.pid.to_s]]
}
