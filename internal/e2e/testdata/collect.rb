# Prints what the Ruby mmap client itself serves from a directory.
#
#   usage: collect.rb DIR
require 'prometheus/client'
require 'prometheus/client/formats/text'

puts Prometheus::Client::Formats::Text.marshal_multiprocess(ARGV[0])
