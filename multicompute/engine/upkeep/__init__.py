"""Operations on clusters that are up: refresh, heal and extend."""
