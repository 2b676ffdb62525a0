"""What tests of every kind share: real servers, thrown away afterwards."""
